//! Tokens over many lifetimes: how often Azure is asked, how evenly, and how often a Secret is written.

use std::{collections::BTreeMap, time::Duration};

use azure_simulator::{Operation, Service};

use super::{
    holder::Holder,
    rig::Rig,
    scene::{Ask, azure_with, azure_with_owned},
};

const REGISTRY: &str = "one.azurecr.io";

#[tokio::test(start_paused = true)]
async fn c4_a_key_costs_one_call_per_refresh_period_however_many_hold_it() {
    let rig = Rig::new(azure_with_owned(1, &[REGISTRY]));
    let ask = Ask::broker_owned(0, REGISTRY);
    let mut holders: Vec<_> = (0..20).map(|_| Holder::new(ask.clone(), rig.now())).collect();
    let hours = 50;
    for _ in 0..hours * 180 {
        for holder in &mut holders {
            if let Some(outcome) = holder.tick(&rig, 0).await {
                outcome.ok().unwrap();
            }
        }
        rig.pass(20).await;
    }
    // Access tokens live an hour here: renewed after half of it at the earliest.
    let calls = rig.count(Service::Acr, Operation::Token);
    assert!((hours..=2 * hours).contains(&calls), "{calls} access tokens");
    // Refresh tokens of three hours; Entra tokens of a day, of which the metadata service hands out the same one until
    // little of it is left: past its refresh point it is asked for a newer one each twentieth of that day.
    let exchanges = rig.count(Service::Acr, Operation::Exchange);
    assert!(
        (hours / 3..=2 * hours / 3 + 1).contains(&exchanges),
        "{exchanges} refresh tokens"
    );
    let tokens = rig.count(Service::Imds, Operation::Token);
    assert!((2..=20).contains(&tokens), "{tokens} Entra tokens");
}

#[tokio::test(start_paused = true)]
async fn s6_two_thousand_keys_of_one_second_are_not_renewed_together() {
    const KEYS: usize = 2_000;
    let rig = Rig::new(azure_with_owned(1, &[REGISTRY]));
    let mut holders: Vec<_> = (0..KEYS)
        .map(|n| {
            let ask = Ask {
                scope: format!("repository:team/app-{n}:pull"),
                ..Ask::broker_owned(0, REGISTRY)
            };
            Holder::new(ask, rig.now())
        })
        .collect();
    let started = rig.clock.elapsed();
    for _ in 0..3_000 {
        for holder in &mut holders {
            if let Some(outcome) = holder.tick(&rig, 0).await {
                outcome.ok().unwrap();
            }
        }
        rig.pass(1).await;
    }
    let mut per_second = BTreeMap::<i64, usize>::new();
    for call in rig.calls().of(Service::Acr, Operation::Token).entries() {
        *per_second.entry(call.at_sim.as_second()).or_default() += 1;
    }
    let first = *per_second.keys().next().unwrap();
    let renewals: BTreeMap<_, _> = per_second.split_off(&(first + 60));
    assert_eq!(renewals.values().sum::<usize>(), KEYS, "each was renewed once");
    let most = renewals.values().max().unwrap();
    assert!(*most <= KEYS / 100, "1 % in a second: {most}");
    assert!(rig.clock.elapsed().saturating_sub(started) < Duration::from_secs(3_100));
}

#[tokio::test(start_paused = true)]
async fn s8_replicas_with_different_tokens_cost_one_write_per_refresh_period() {
    const REPLICAS: usize = 3;
    const HOURS: u32 = 12;
    // One holder per key, and many: then each replica's token is of another age.
    for (keys, holders_per_key) in [(10, 1), (3, 20)] {
        let rig = Rig::with_replicas(azure_with(keys, &[REGISTRY]), REPLICAS);
        let mut holders: Vec<_> = (0..keys * holders_per_key)
            .map(|n| {
                let ask = Ask::federated(n % keys, REGISTRY);
                Holder::new(ask, rig.now() + Duration::from_secs(60 * n as u64))
            })
            .collect();
        for _ in 0..HOURS * 180 {
            for holder in &mut holders {
                let replica = rand::random_range(0..REPLICAS);
                if let Some(outcome) = holder.tick(&rig, replica).await {
                    outcome.ok().unwrap();
                }
                assert!(holder.held.is_none() || holder.can_pull(rig.now()));
            }
            rig.pass(20).await;
        }
        // The first, and then an hour of life, half of it at least between two writes: by the mean of all holders, for one
        // that meets a token in the middle of its life writes again sooner.
        let writes: Vec<u32> = holders.iter().map(|holder| holder.writes).collect();
        let holders = u32::try_from(writes.len()).unwrap();
        assert!(
            writes.iter().sum::<u32>() <= holders * (1 + 2 * HOURS),
            "{writes:?} in {HOURS} h"
        );
        let each = HOURS - 1..=1 + 3 * HOURS;
        assert!(
            writes.iter().all(|writes| each.contains(writes)),
            "{writes:?} in {HOURS} h"
        );
        // Replicas know nothing of each other: each may fetch, and none more often than once per refresh period.
        let calls = rig.count(Service::Acr, Operation::Token);
        let most = REPLICAS * keys * 2 * usize::try_from(HOURS).unwrap();
        assert!(calls <= most, "{calls} access tokens");
    }
}
