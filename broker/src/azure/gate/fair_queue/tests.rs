//! Turns, and who goes when there are too many.

use std::time::{Duration, UNIX_EPOCH};

use super::{super::limits::PLACES, *};

fn tenant(namespace: &str) -> Tenant {
    of("c", namespace)
}

fn of(cluster: &str, namespace: &str) -> Tenant {
    Tenant {
        cluster: cluster.into(),
        namespace: namespace.into(),
    }
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Who is next where there are starts enough, and no other host.
fn next(queue: &FairQueue<&'static str>) -> Option<Tenant> {
    queue.next(&Held::none_of(PLACES), false).cloned()
}

/// All, each with a call that has ended before the next one starts.
fn served(queue: &mut FairQueue<&'static str>) -> Vec<&'static str> {
    let mut served = Vec::new();
    while let Some(tenant) = next(queue) {
        served.extend(queue.pop(&tenant));
        queue.started(&tenant);
        queue.ended(&tenant);
    }
    assert!(queue.is_empty() && queue.clusters.is_empty() && queue.turns.is_empty());
    served
}

#[test]
fn u8_within_a_tenant_what_expires_first_goes_first() {
    let mut queue = FairQueue::new(10, PLACES);
    for (held_until, waiter) in [
        (Some(at(20)), "20"),
        (None, "none"),
        (Some(at(10)), "10"),
        (Some(at(10)), "10, later"),
        (None, "none, later"),
    ] {
        queue.push(&tenant("a"), held_until, waiter);
    }
    assert_eq!(
        served(&mut queue),
        ["none", "none, later", "10", "10, later", "20"]
    );
}

#[test]
fn u6_tenants_take_turns_however_much_they_ask() {
    let mut queue = FairQueue::new(10, PLACES);
    for (namespace, waiter) in [
        ("a", "a1"),
        ("a", "a2"),
        ("a", "a3"),
        ("b", "b1"),
        ("c", "c1"),
        ("b", "b2"),
    ] {
        queue.push(&tenant(namespace), None, waiter);
    }
    assert_eq!(served(&mut queue), ["a1", "b1", "c1", "a2", "b2", "a3"]);
}

#[test]
fn u6_clusters_take_turns_however_many_namespaces_they_name() {
    let mut queue = FairQueue::new(10, PLACES);
    for (cluster, namespace, waiter) in [
        ("noisy", "n1", "n1"),
        ("noisy", "n2", "n2"),
        ("noisy", "n3", "n3"),
        ("noisy", "n3", "n3, again"),
        ("noisy", "n4", "n4"),
        ("quiet", "web", "web"),
        ("quiet", "web", "web, again"),
        ("other", "web", "web of the other"),
    ] {
        queue.push(&of(cluster, namespace), None, waiter);
    }
    assert_eq!(
        served(&mut queue),
        [
            "n1",
            "web",
            "web of the other",
            "n2",
            "web, again",
            "n3",
            "n4",
            "n3, again"
        ]
    );
}

#[test]
fn u6_full_queue_drops_one_of_the_cluster_with_the_most_however_it_is_spread() {
    let mut queue = FairQueue::new(4, PLACES);
    for namespace in ["n1", "n2", "n3"] {
        queue.push(&of("noisy", namespace), None, "noisy");
    }
    queue.push(&of("quiet", "web"), None, "quiet 1");
    // The quiet one has the longest line of all, and not the most callers.
    assert_eq!(queue.push(&of("quiet", "web"), None, "quiet 2").1, Some("noisy"));
    let turns = served(&mut queue);
    assert_eq!(turns, ["noisy", "quiet 1", "noisy", "quiet 2"]);
}

#[test]
fn u6_full_queue_drops_the_least_urgent_of_the_longest_line() {
    let mut queue = FairQueue::new(3, PLACES);
    queue.push(&tenant("noisy"), Some(at(1)), "noisy 1");
    queue.push(&tenant("noisy"), Some(at(3)), "noisy 3");
    queue.push(&tenant("noisy"), Some(at(2)), "noisy 2");
    assert_eq!(
        queue.push(&tenant("quiet"), Some(at(9)), "quiet").1,
        Some("noisy 3")
    );
    assert_eq!(
        queue.push(&tenant("noisy"), Some(at(7)), "noisy 7").1,
        Some("noisy 7")
    );
    assert_eq!(queue.push(&tenant("noisy"), None, "noisy now").1, Some("noisy 2"));
    assert_eq!(served(&mut queue), ["noisy now", "quiet", "noisy 1"]);
}

#[test]
fn queue_forgets_who_left_and_skips_who_may_not() {
    let mut queue = FairQueue::new(10, PLACES);
    let (rank, _) = queue.push(&tenant("a"), None, "a1");
    queue.push(&tenant("a"), None, "a2");
    queue.push(&tenant("b"), None, "b1");
    assert_eq!(queue.remove(&tenant("a"), rank), Some("a1"));
    assert_eq!(queue.remove(&tenant("a"), rank), None);
    let places = Places {
        all: 5,
        per_cluster: 2,
        per_namespace: 1,
    };
    let mut total = Held::none_of(places);
    total.take(&tenant("a"));
    assert_eq!(queue.next(&total, false), Some(&tenant("b")));
    queue.push(&of("d", "a"), None, "d1");
    total.take(&tenant("elsewhere"));
    assert_eq!(queue.next(&total, false), Some(&of("d", "a")));
    for cluster in ["x", "y", "z"] {
        total.take(&of(cluster, "elsewhere"));
    }
    assert_eq!(queue.next(&total, false), None);
    assert_eq!(queue.drain(|waiter| *waiter != "a2"), ["b1", "d1"]);
    assert_eq!((queue.len(), served(&mut queue)), (1, vec!["a2"]));
}

#[test]
fn u6_who_has_the_fewest_calls_in_flight_goes_first_and_equals_in_turn() {
    let mut queue = FairQueue::new(20, PLACES);
    let (busy, idle, quiet) = (of("large", "busy"), of("large", "idle"), of("small", "web"));
    for tenant in [&busy, &busy, &idle, &quiet, &quiet] {
        queue.started(tenant);
    }
    for _ in 0..4 {
        for tenant in [&busy, &idle, &quiet] {
            queue.push(tenant, None, "");
        }
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let tenant = next(&queue).unwrap();
        queue.pop(&tenant);
        queue.started(&tenant);
        order.push(tenant);
    }
    assert_eq!(
        order,
        [&quiet, &idle, &quiet, &busy, &quiet, &idle].map(Clone::clone)
    );
    // A place that is free again counts at once.
    for _ in 0..2 {
        queue.ended(&busy);
    }
    assert_eq!(next(&queue), Some(busy));
}

#[test]
fn u6_turn_is_used_up_by_a_call_that_starts_and_by_no_other() {
    let mut queue = FairQueue::new(10, PLACES);
    let (a, b) = (of("first", "a"), of("second", "b"));
    for waiter in ["refused", "refused, too", "started", "later"] {
        queue.push(&a, None, waiter);
    }
    queue.push(&b, None, "in turn");
    for _ in 0..3 {
        assert_eq!(next(&queue).as_ref(), Some(&a));
        queue.pop(&a);
    }
    queue.started(&a);
    queue.ended(&a);
    assert_eq!(next(&queue), Some(b));
}

#[test]
fn u6_namespace_that_holds_the_most_is_put_back_only_where_its_cluster_lacks_places() {
    let (slow, fast, other) = (of("a", "slow"), of("a", "fast"), of("b", "web"));
    let places = Places {
        all: 8,
        per_cluster: 7,
        per_namespace: 6,
    };
    for (other_waits, expected) in [(true, &slow), (false, &fast)] {
        let mut queue = FairQueue::new(10, places);
        queue.push(&slow, None, "");
        queue.push(&fast, None, "");
        if other_waits {
            queue.push(&other, None, "");
        }
        for tenant in [&other, &other, &other, &other, &slow, &slow, &slow, &fast] {
            queue.started(tenant);
        }
        queue.ended(&fast);
        // The slow one has waited longer, and the places that are left are those that a cluster must leave.
        let next = queue.next(&Held::none_of(PLACES), true);
        assert_eq!(
            next,
            Some(expected),
            "if another cluster with more waits: {other_waits}"
        );
    }
}
