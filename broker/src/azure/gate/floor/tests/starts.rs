//! What each has of one host when calls take unequally long and the rate is short, in cases that can be reckoned by hand.

use super::{
    crowd::{Asker, History, run, use_up_the_burst},
    *,
};

/// Until who came first has no more in flight than others let it, in ms.
const SETTLED: usize = 5000;
const SECOND: usize = 1000;
const END: usize = SETTLED + 10 * SECOND;

const KINDS: [HostKind; 3] = [HostKind::Entra, HostKind::Registry, HostKind::Imds];

/// Each a cluster, or a namespace of the same one, with calls that take so long; by whose number.
fn beside_each_other<const N: usize>(kind: HostKind, are_of_one_cluster: bool, takes: [u32; N]) -> History {
    let askers = takes.into_iter().enumerate().map(|(number, takes)| {
        let (cluster, namespace) = if are_of_one_cluster {
            (0, number)
        } else {
            (number, 0)
        };
        Asker::on_and_on(cluster, namespace, takes)
    });
    run(kind, &askers.collect::<Vec<_>>(), END)
}

#[test]
fn u6_calls_that_end_at_once_get_no_more_starts_than_others() {
    for kind in KINDS {
        for are_of_one_cluster in [false, true] {
            let history = beside_each_other(kind, are_of_one_cluster, [20, 200]);
            // Not only in the mean: in every second.
            for from in (SETTLED..END).step_by(SECOND) {
                let [fast, slow] = [0, 1].map(|who| history.starts(&[who], from, from + SECOND));
                assert!(fast.abs_diff(slow) <= 1, "{kind:?}: {fast} and {slow}");
            }
        }
    }
}

#[test]
fn u6_calls_too_slow_for_half_of_the_starts_get_the_places_of_a_namespace_and_fast_ones_the_other_starts() {
    for kind in KINDS {
        for (are_of_one_cluster, slow) in [(false, 1000), (true, 1000), (false, 4000), (true, 4000)] {
            let history = beside_each_other(kind, are_of_one_cluster, [5, slow]);
            let places = f64::from(kind.limits().places.per_namespace);
            let held = history.held(1, SETTLED, END);
            assert!(held > places - 0.7, "{kind:?}, {slow} ms: {held} of {places}");
            let all = history.starts(&[0, 1], SETTLED, END) + 1;
            let rate = Duration::from_secs(10).as_millis() / kind.limits().interval.as_millis();
            assert!(all as u128 >= rate, "{kind:?}, {slow} ms: {all} of {rate}");
        }
    }
}

#[test]
fn u6_five_tenants_have_a_fifth_of_the_starts_each_however_long_their_calls_take() {
    for are_of_one_cluster in [false, true] {
        let history = beside_each_other(HostKind::Entra, are_of_one_cluster, [5, 20, 150, 250, 500]);
        for from in (SETTLED..END).step_by(SECOND) {
            for number in 0..5 {
                let starts = history.starts(&[number], from, from + SECOND);
                assert!((19..=21).contains(&starts), "{number}: {starts}");
            }
        }
    }
}

#[test]
fn u6_where_starts_and_places_are_short_each_has_a_third_of_the_one_or_of_the_other() {
    for (are_of_one_cluster, short_from) in [(false, 28.0), (true, 24.0)] {
        let history = beside_each_other(HostKind::Registry, are_of_one_cluster, [5, 200, 1500]);
        let [fast, medium, slow] = [0, 1, 2].map(|who| history.starts(&[who], SETTLED, END));
        assert!(
            fast > 330 && medium > 330 && slow < 330,
            "{fast}, {medium}, {slow}"
        );
        let held = history.held(2, SETTLED, END);
        assert!(held > short_from / 3.0, "{held}");
    }
}

#[test]
fn u6_two_that_fill_a_host_and_one_that_takes_all_starts_leave_a_fourth_its_share_of_the_places() {
    for (slow, medium) in [(10_000, 1000), (10_000, 300), (3000, 1000), (3000, 300)] {
        let mut askers = [slow, slow, medium, 5]
            .into_iter()
            .enumerate()
            .map(|(number, takes)| Asker::on_and_on(number, 0, takes))
            .collect::<Vec<_>>();
        for late in &mut askers[2..] {
            (late.rests, late.asks) = (3 * SECOND, 30 * SECOND);
        }
        let history = run(HostKind::Registry, &askers, 30 * SECOND);
        // Once the first ones that the two had in flight have ended.
        for from in (15 * SECOND..30 * SECOND).step_by(3 * SECOND) {
            let held = history.held(2, from, from + 3 * SECOND);
            assert!(held > 7.0, "{slow} and {medium} ms, from {from} ms: {held}");
        }
    }
}

#[test]
fn u6_namespaces_of_a_cluster_that_finds_places_yet_go_in_turn_beside_a_cluster_that_holds_the_most() {
    let askers = [(0, 0, 5), (0, 1, 200), (1, 0, 1500)];
    let askers = askers.map(|(cluster, namespace, takes)| Asker::on_and_on(cluster, namespace, takes));
    let history = run(HostKind::Entra, &askers, END);
    let [fast, medium] = [0, 1].map(|who| history.starts(&[who], SETTLED, END));
    assert!(fast.abs_diff(medium) <= 20, "{fast} and {medium}");
}

#[test]
fn u6_who_was_idle_or_took_the_whole_burst_has_its_turn_and_no_more() {
    let (mut floor, start) = (Floor::new(chance), Instant::now());
    let call = |cluster| visit_of(HostKind::Entra, "host", cluster, 0);
    let mut replies = Vec::new();
    // One takes what a quiet time has left, while nobody waits; then others ask, and one that never has before.
    use_up_the_burst(&mut floor, HostKind::Entra, start);
    for (id, cluster) in [(1, 1000), (2, 2)].into_iter().cycle().take(100) {
        floor.arrive(call(cluster), id, start, &mut replies).unwrap();
    }
    let mut order = Vec::new();
    for step in 1..=40 {
        let now = start + MS * 10 * step;
        if step == 21 {
            for _ in 0..50 {
                floor.arrive(call(3), 3, now, &mut replies).unwrap();
            }
        }
        floor.dispatch(now, &mut replies);
        for (id, admission) in started(std::mem::take(&mut replies)) {
            order.push(id);
            floor.leave(admission, Some(Outcome::Answered), now, &mut replies);
        }
    }
    assert_eq!(order[..20], [1, 2].repeat(10));
    assert_eq!(order[20..38], [1, 2, 3].repeat(6));
}
