//! A thousand bindings of one identity at one registry, created together: what they cost Azure in an hour, and in the worst
//! second of it.

use std::collections::BTreeMap;

use azure_simulator::{Operation, Service};

use super::{
    holder::Holder,
    rig::Rig,
    scene::{Ask, azure_with},
};

const REGISTRY: &str = "one.azurecr.io";
const BINDINGS: usize = 1_000;
const HOUR_S: u64 = 3_600;
/// After the first hour, in which all of them are new.
const HOURS: u64 = 3;
/// A peer without a cache makes three calls for each binding, twice an hour.
const OF_THE_PEER: usize = 6 * BINDINGS;
/// Of what all bindings need together: one that lives for an hour, refreshed at half of its life.
const SHARED: usize = 3;
/// In one second: jitter spreads who was told the same time over a twentieth of a token's life.
const PEAK: usize = BINDINGS / 50;

/// What Azure was asked in the hours after the first: in each hour, and in the worst second.
struct Cost {
    hours: Vec<BTreeMap<(Service, Operation), usize>>,
    peak: usize,
}

/// All ask in the same second first, each for the scope that `scope` gives it.
async fn cost(scope: impl Fn(usize) -> String) -> Cost {
    let rig = Rig::new(azure_with(1, &[REGISTRY]));
    let start = rig.now();
    let mut holders: Vec<_> = (0..BINDINGS)
        .map(|number| {
            let ask = Ask {
                scope: scope(number),
                ..Ask::federated(0, REGISTRY)
            };
            Holder::new(ask, start)
        })
        .collect();
    for _second in 0..(HOURS + 1) * HOUR_S {
        for holder in &mut holders {
            if let Some(outcome) = holder.tick(&rig, 0).await {
                assert!(outcome.is_ok(), "{outcome:?}");
            }
        }
        rig.pass(1).await;
    }
    assert!(holders.iter().all(|holder| holder.is_above_the_floor(rig.now())));

    let mut hours = vec![BTreeMap::new(); usize::try_from(HOURS).unwrap()];
    let mut seconds = BTreeMap::<i64, usize>::new();
    let from = jiff::Timestamp::try_from(start).unwrap().as_second() + i64::try_from(HOUR_S).unwrap();
    for call in rig.calls().entries() {
        let at = call.at_real.as_second();
        let Ok(since) = u64::try_from(at - from) else {
            continue;
        };
        if let Some(hour) = hours.get_mut(usize::try_from(since / HOUR_S).unwrap()) {
            *hour.entry((call.service, call.op)).or_default() += 1;
            *seconds.entry(at).or_default() += 1;
        }
    }
    Cost {
        hours,
        peak: seconds.into_values().max().unwrap_or_default(),
    }
}

#[tokio::test(start_paused = true)]
async fn b23_thousand_bindings_of_one_scope_cost_a_handful_of_calls_an_hour() {
    let cost = cost(|_number| "repository:team/app:pull".to_owned()).await;
    println!("one scope: {:?}, at most {} a second", cost.hours, cost.peak);
    for hour in &cost.hours {
        let calls: usize = hour.values().sum();
        assert!(calls <= 3 * SHARED, "{calls} calls in an hour: {hour:?}");
    }
    assert!(cost.peak <= 3, "{} calls in a second", cost.peak);
}

#[tokio::test(start_paused = true)]
async fn b23_thousand_bindings_of_as_many_scopes_cost_one_call_a_refresh_and_are_spread() {
    let cost = cost(|number| format!("repository:team/app{number}:pull")).await;
    println!("as many scopes: {:?}, at most {} a second", cost.hours, cost.peak);
    for hour in &cost.hours {
        for shared in [
            (Service::Entra, Operation::Token),
            (Service::Acr, Operation::Exchange),
        ] {
            let calls = hour.get(&shared).copied().unwrap_or_default();
            assert!(calls <= SHARED, "{shared:?}: {hour:?}");
        }
        let calls: usize = hour.values().sum();
        assert!(calls <= OF_THE_PEER / 2, "{calls} calls in an hour: {hour:?}");
    }
    assert!(cost.peak <= PEAK, "{} calls in a second", cost.peak);
}
