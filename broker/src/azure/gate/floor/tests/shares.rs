//! What each has of one host when calls take unequally long.

use super::*;

/// A fast call takes one of these steps.
const STEP: Duration = Duration::from_millis(100);
/// A slow one takes so many.
const SLOW_STEPS: u32 = 100;

/// Two that always have callers waiting for one host, the first with slow calls: how many each has in flight in the end, if
/// the first has taken all the places that it may before the second came.
fn in_flight_in_the_end(slow: (usize, usize), fast: (usize, usize)) -> [usize; 2] {
    let (mut floor, start) = (Floor::new(chance), Instant::now());
    let call = |(cluster, namespace)| visit_of(HostKind::Registry, "host", cluster, namespace);
    let mut ids = 0..;
    // Each with the step in which it ends. Those that are there first have started one after the other.
    let mut running: Vec<(u32, Admission)> = Vec::new();
    for tenant in [slow, fast] {
        for number in 0..1000 {
            let started = arrive(&mut floor, call(tenant), ids.next().unwrap(), start).unwrap();
            running.extend(
                started
                    .into_iter()
                    .map(|(_, admission)| (1 + number * 3, admission)),
            );
        }
    }
    let is_slow = |admission: &Admission| admission.visit.attempt.tenant == call(slow).attempt.tenant;
    for step in 1..=2 * SLOW_STEPS {
        let now = start + STEP * step;
        let (ended, left) = running.into_iter().partition(|(end, _)| *end <= step);
        running = left;
        for (_, admission) in ended {
            let who = if is_slow(&admission) { slow } else { fast };
            let mut next = end(&mut floor, admission, Outcome::Answered, now);
            next.extend(arrive(&mut floor, call(who), ids.next().unwrap(), now).unwrap());
            running.extend(next.into_iter().map(|(_, admission)| {
                let steps = if is_slow(&admission) { SLOW_STEPS } else { 1 };
                (step + steps, admission)
            }));
        }
    }
    let of_slow = running.iter().filter(|(_, admission)| is_slow(admission)).count();
    [of_slow, running.len() - of_slow]
}

#[test]
fn u6_cluster_with_slow_calls_has_half_of_a_host_beside_one_with_fast_calls() {
    assert_eq!(in_flight_in_the_end((1, 0), (2, 0)), [16, 16]);
}

#[test]
fn u6_namespace_with_slow_calls_has_half_of_its_clusters_places_beside_one_with_fast_calls() {
    assert_eq!(in_flight_in_the_end((1, 0), (1, 1)), [14, 14]);
}
