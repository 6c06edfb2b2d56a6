//! Tokens over many lifetimes: how often Azure is asked, how evenly, and how often a Secret is written.

use std::{collections::BTreeMap, time::Duration};

use azure_simulator::{Operation, Service};

use super::{
    holder::Holder,
    rig::{Ask, Rig, azure_with, azure_with_owned},
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
async fn s6_a_thousand_keys_of_one_second_are_not_renewed_together() {
    let rig = Rig::new(azure_with_owned(1, &[REGISTRY]));
    let mut holders: Vec<_> = (0..1_000)
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
    assert_eq!(renewals.values().sum::<usize>(), 1_000, "each was renewed once");
    let most = renewals.values().max().unwrap();
    assert!(*most <= 10, "1 % in a second: {most}");
    assert!(rig.clock.elapsed().saturating_sub(started) < Duration::from_secs(3_100));
}

#[tokio::test(start_paused = true)]
async fn s8_replicas_with_different_tokens_cost_one_write_per_refresh_period() {
    let rig = Rig::with_replicas(azure_with(10, &[REGISTRY]), 3);
    let mut holders: Vec<_> = (0..10)
        .map(|n| {
            Holder::new(
                Ask::federated(n, REGISTRY),
                rig.now() + Duration::from_secs(60 * n as u64),
            )
        })
        .collect();
    let hours = 20_u32;
    for _ in 0..hours * 360 {
        for holder in &mut holders {
            let replica = rand::random_range(0..3);
            if let Some(outcome) = holder.tick(&rig, replica).await {
                outcome.ok().unwrap();
            }
            assert!(holder.held.is_none() || holder.can_pull(rig.now()));
        }
        rig.pass(10).await;
    }
    for holder in &holders {
        // An hour of life, half of it at least between two writes.
        assert!(
            holder.writes <= 2 * hours,
            "{} writes in {hours} h",
            holder.writes
        );
        assert!(holder.writes >= hours, "{} writes in {hours} h", holder.writes);
    }
    // Replicas know nothing of each other: each may fetch, and none more often than once per refresh period.
    let calls = rig.count(Service::Acr, Operation::Token);
    let most = usize::try_from(3 * 10 * 2 * hours).unwrap();
    assert!(calls <= most, "{calls} access tokens");
}
