//! Any pattern of arrivals and ends, against the promises: budgets, shares, order, and nothing left behind.

mod bound;
mod crowd;
mod memory;
mod shares;
mod starts;

use std::time::{SystemTime, UNIX_EPOCH};

use proptest::prelude::*;

use super::{
    super::{
        PauseScope,
        limits::{Places, WAITING_PER_HOST},
    },
    *,
};
use crate::azure::{
    Attempt,
    transport::{Stage, TransportError},
    upstream::UpstreamError,
};

const MS: Duration = Duration::from_millis(1);

type Started = Vec<(u32, Admission)>;

fn chance() -> f64 {
    0.5
}

/// A call for a namespace of a cluster of its own.
fn visit(kind: HostKind, host: &str, tenant: usize, held_until: Option<SystemTime>) -> Visit {
    let attempt = Attempt {
        held_until,
        ..visit_of(kind, host, tenant, 0).attempt
    };
    Visit::new(kind, host, PauseScope::Host, attempt)
}

/// A call for one of the namespaces of a cluster.
fn visit_of(kind: HostKind, host: &str, cluster: usize, namespace: usize) -> Visit {
    let attempt = Attempt {
        tenant: Tenant {
            cluster: format!("c{cluster}").into(),
            namespace: format!("n{namespace}").into(),
        },
        held_until: None,
        is_retry: false,
    };
    Visit::new(kind, host, PauseScope::Host, attempt)
}

fn failure() -> Outcome {
    Outcome::Failed(UpstreamError::Transport(TransportError::Timeout(Stage::Headers)))
}

/// Lets one arrive, and says who started by that.
fn arrive(floor: &mut Floor<u32>, visit: Visit, id: u32, now: Instant) -> Result<Started, Withheld> {
    let mut replies = Vec::new();
    floor.arrive(visit, id, now, &mut replies)?;
    floor.dispatch(now, &mut replies);
    Ok(started(replies))
}

fn end(floor: &mut Floor<u32>, admission: Admission, outcome: Outcome, now: Instant) -> Started {
    let mut replies = Vec::new();
    floor.leave(admission, Some(outcome), now, &mut replies);
    floor.dispatch(now, &mut replies);
    started(replies)
}

fn started(replies: Replies<u32>) -> Started {
    replies
        .into_iter()
        .filter_map(|(id, decision)| Some((id, decision.ok()?)))
        .collect()
}

/// What may happen next.
#[derive(Debug, Clone)]
enum Event {
    Arrive { tenant: usize, host: usize },
    End { which: usize, fails: bool },
    Pass { ms: u64 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0_usize..6, 0_usize..3).prop_map(|(tenant, host)| Event::Arrive { tenant, host }),
        3 => (0_usize..8, prop::bool::weighted(0.1)).prop_map(|(which, fails)| Event::End { which, fails }),
        3 => (0_u64..300).prop_map(|ms| Event::Pass { ms }),
    ];
    prop::collection::vec(event, 1..400)
}

proptest! {
    // Each case is hundreds of events.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn u3_imds_has_at_most_4_in_flight_and_10_starts_in_any_second(events in events()) {
        let mut floor = Floor::new(chance);
        let mut now = Instant::now();
        let (mut running, mut starts) = (Vec::new(), Vec::new());
        for (id, event) in (0..).zip(events) {
            let new = match event {
                Event::Arrive { tenant, .. } => {
                    let visit = visit(HostKind::Imds, "imds", tenant, None);
                    arrive(&mut floor, visit, id, now).unwrap_or_default()
                }
                Event::End { which, fails } if which < running.len() => {
                    let outcome = if fails { failure() } else { Outcome::Answered };
                    end(&mut floor, running.swap_remove(which), outcome, now)
                }
                Event::End { .. } => Vec::new(),
                Event::Pass { ms } => {
                    now += MS * u32::try_from(ms).unwrap();
                    let mut replies = Vec::new();
                    floor.dispatch(now, &mut replies);
                    started(replies)
                }
            };
            for (_, admission) in new {
                running.push(admission);
                starts.push(now);
            }
            prop_assert!(running.len() <= 4);
        }
        for (position, start) in starts.iter().enumerate() {
            let end = *start + Duration::from_secs(1);
            prop_assert!(starts.iter().skip(position).take_while(|at| **at <= end).count() <= 10);
        }
    }

    #[test]
    fn u4_no_host_no_cluster_and_no_namespace_takes_more_than_its_places(events in events()) {
        let mut floor = Floor::new(chance);
        let now = Instant::now();
        let mut running: Vec<Admission> = Vec::new();
        for (id, event) in (0..).zip(events) {
            let new = match event {
                // Each ten times, so that the places run out.
                Event::Arrive { tenant, host } => (0..10)
                    .flat_map(|copy| {
                        let visit = visit_of(HostKind::Registry, &format!("host{host}"), tenant % 2, tenant);
                        arrive(&mut floor, visit, id * 10 + copy, now).unwrap_or_default()
                    })
                    .collect(),
                Event::End { which, .. } if which < running.len() => {
                    end(&mut floor, running.swap_remove(which), Outcome::Answered, now)
                }
                Event::End { .. } | Event::Pass { .. } => Vec::new(),
            };
            running.extend(new.into_iter().map(|(_, admission)| admission));
            let mut held = HashMap::<_, u32>::new();
            for Admission { visit, .. } in &running {
                let Tenant { cluster, namespace } = &visit.attempt.tenant;
                for (holder, most) in [(None, 32), (Some((cluster, None)), 28), (Some((cluster, Some(namespace))), 24)] {
                    let held = held.entry((&visit.host, holder)).or_default();
                    *held += 1;
                    prop_assert!(*held <= most);
                }
            }
        }
        // Whatever happened, nothing is left once all have ended.
        while let Some(admission) = running.pop() {
            running.extend(end(&mut floor, admission, Outcome::Answered, now).into_iter().map(|(_, next)| next));
        }
        prop_assert_eq!((floor.held.all(), floor.held.holders()), (0, 0));
        prop_assert!(floor.waiting.is_empty());
    }
}

#[test]
fn u4_all_hosts_together_have_256_places_and_one_namespace_and_one_cluster_leave_some() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    let mut running = 0;
    for id in 0..640 {
        let visit = visit(HostKind::Registry, &format!("host{}", id % 20), 1, None);
        running += arrive(&mut floor, visit, id, now).unwrap().len();
    }
    assert_eq!(running, PLACES.per_namespace as usize);
    for id in 0..640 {
        let visit = visit_of(HostKind::Registry, &format!("next{}", id % 20), 1, 1);
        running += arrive(&mut floor, visit, id, now).unwrap().len();
    }
    assert_eq!(
        running, PLACES.per_cluster as usize,
        "another namespace of its cluster"
    );
    for id in 0..640 {
        let visit = visit(HostKind::Registry, &format!("other{}", id % 20), 2, None);
        running += arrive(&mut floor, visit, id, now).unwrap().len();
    }
    assert_eq!(running, PLACES.all as usize);
}

#[test]
fn u6_freed_place_of_the_total_goes_to_the_cluster_with_the_fewest_whatever_namespaces_it_names() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    let mut running = Vec::new();
    // A thousand namespaces that hold a call each at most, and one of another cluster that holds some.
    for id in 0..1000 {
        let visit = visit_of(HostKind::Registry, &format!("host{}", id % 20), 1, id as usize);
        running.extend(arrive(&mut floor, visit, id, now).unwrap());
    }
    for id in 1000..1032 {
        let visit = visit_of(HostKind::Registry, &format!("zzz{}", id % 2), 2, 0);
        running.extend(arrive(&mut floor, visit, id, now).unwrap());
    }
    assert_eq!(running.len(), PLACES.all as usize);
    let quiet = visit_of(HostKind::Registry, "zzz0", 2, 0);
    arrive(&mut floor, quiet, 2000, now).unwrap();
    let (_, admission) = running.remove(0);
    let next = end(&mut floor, admission, Outcome::Answered, now);
    assert_eq!(next.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2000]);
}

#[test]
fn u6_freed_place_of_the_total_goes_to_the_tenant_with_the_fewest() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    let mut running = Vec::new();
    for id in 0..600 {
        let visit = visit(
            HostKind::Registry,
            &format!("host{}", id % 20),
            1 + (id % 2) as usize,
            None,
        );
        running.extend(arrive(&mut floor, visit, id, now).unwrap());
    }
    assert_eq!(running.len(), PLACES.all as usize);
    arrive(&mut floor, visit(HostKind::Registry, "zzz", 9, None), 1000, now).unwrap();
    let (_, admission) = running.pop().unwrap();
    let next = end(&mut floor, admission, Outcome::Answered, now);
    assert_eq!(next.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1000]);
}

/// Eight slow hosts that hold all places and have as many waiting, each caller a tenant of its own.
fn all_places_at_eight_slow_hosts(floor: &mut Floor<u32>, now: Instant) -> Started {
    let mut running = Vec::new();
    for id in 0..2 * PLACES.all {
        let host = format!("slow{}", id % 8);
        running.extend(
            arrive(
                floor,
                visit(HostKind::Registry, &host, id as usize, None),
                id,
                now,
            )
            .unwrap(),
        );
    }
    assert_eq!(running.len(), PLACES.all as usize);
    running
}

#[test]
fn u4_freed_place_of_the_total_goes_to_the_host_with_the_fewest_among_equal_tenants() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    let mut running = all_places_at_eight_slow_hosts(&mut floor, now);
    arrive(
        &mut floor,
        visit(HostKind::Registry, "zzz", 9999, None),
        1000,
        now,
    )
    .unwrap();
    let (_, admission) = running.pop().unwrap();
    let next = end(&mut floor, admission, Outcome::Answered, now);
    assert_eq!(next.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [1000]);
}

#[test]
fn u4_hosts_that_share_one_place_take_turns() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    let mut running = all_places_at_eight_slow_hosts(&mut floor, now);
    // More than one place may hang for good, and these two live by the one that does not.
    for id in 0..20_u32 {
        let host = if id < 10 { "yyy" } else { "zzz" };
        let visit = visit(HostKind::Registry, host, 1000 + id as usize, None);
        arrive(&mut floor, visit, 1000 + id, now).unwrap();
    }
    let mut order = Vec::new();
    let (_, mut admission) = running.pop().unwrap();
    for _ in 0..20 {
        let (_, next) = end(&mut floor, admission, Outcome::Answered, now).pop().unwrap();
        order.push(next.visit.host.1.to_string());
        admission = next;
    }
    assert_eq!(order, ["yyy", "zzz"].repeat(10));
}

#[test]
fn u8_cold_start_keeps_the_most_urgent_of_more_than_can_wait() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    let mut running = Vec::new();
    let callers = 10_000_u32;
    for id in 0..callers {
        // 7,919 is prime: every number below 10,000 once, in no order.
        let rank = u64::from(id) * 7919 % u64::from(callers);
        let held_until = Some(UNIX_EPOCH + Duration::from_secs(rank));
        let visit = visit(HostKind::Registry, "host", 1, held_until);
        running.extend(arrive(&mut floor, visit, id, now).unwrap());
    }
    assert_eq!(running.len(), 24);
    let mut order = Vec::new();
    while let Some((_, admission)) = running.pop() {
        order.push(admission.visit.attempt.held_until);
        running.extend(end(
            &mut floor,
            admission,
            Outcome::Answered,
            now + Duration::from_secs(60),
        ));
    }
    assert_eq!(order.len(), 24 + 2000, "the rate allows no more now");
    // Those who came when there was room are among the first 24; the others went by urgency.
    let mut waited: Vec<_> = order
        .iter()
        .filter(|at| **at > Some(UNIX_EPOCH))
        .copied()
        .collect();
    waited.sort();
    assert!(
        waited
            .iter()
            .rev()
            .skip(24)
            .all(|at| *at <= Some(UNIX_EPOCH + Duration::from_secs(2100)))
    );
    assert!(floor.waiting.len() == 1 && WAITING_PER_HOST > 2000);
}

#[test]
fn floor_turns_away_who_waits_for_a_host_that_asks_for_a_pause() {
    let (mut floor, now) = (Floor::new(chance), Instant::now());
    let mut running = Vec::new();
    for id in 0..40 {
        running.extend(arrive(&mut floor, visit(HostKind::Registry, "host", 1, None), id, now).unwrap());
    }
    let mut replies = Vec::new();
    let (_, admission) = running.pop().unwrap();
    let outcome = Outcome::Throttled {
        wait: Some(Duration::from_secs(30)),
        failure: None,
    };
    floor.leave(admission, Some(outcome), now, &mut replies);
    floor.dispatch(now, &mut replies);
    assert_eq!(replies.len(), 16);
    for (_, decision) in replies {
        let withheld = decision.unwrap_err();
        assert_eq!(withheld.why, Why::Paused);
        assert!(withheld.retry_after >= Duration::from_secs(30));
    }
    assert!(floor.waiting.is_empty());
}
