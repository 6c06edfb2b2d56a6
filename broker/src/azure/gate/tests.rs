//! The waiting around the decisions, in virtual time: who goes leaves no trace, who waits is told in time.

use std::sync::Mutex;

use tokio::time::advance;

use super::*;
use crate::tenant::Tenant;

fn visit(kind: HostKind, namespace: &str) -> Visit {
    visit_of("c", kind, namespace)
}

fn visit_of(cluster: &str, kind: HostKind, namespace: &str) -> Visit {
    let attempt = Attempt {
        tenant: Tenant {
            cluster: cluster.into(),
            namespace: namespace.into(),
        },
        held_until: None,
        is_retry: false,
    };
    Visit::new(kind, "host", PauseScope::Host, attempt)
}

fn gate() -> Arc<Gate> {
    Gate::new(|| 0.5)
}

#[tokio::test(start_paused = true)]
async fn u4_newcomer_finds_a_place_at_a_host_that_hangs() {
    let gate = gate();
    let mut hung = Vec::new();
    for _ in 0..24 {
        hung.push(gate.enter(visit(HostKind::Registry, "noisy")).await.unwrap());
    }
    let before = Instant::now();
    let newcomer = gate.enter(visit(HostKind::Registry, "quiet")).await;
    assert!(newcomer.is_ok() && before.elapsed().is_zero());
    let refused = gate
        .enter(visit(HostKind::Registry, "noisy"))
        .await
        .err()
        .unwrap();
    assert_eq!((refused.why, before.elapsed()), (Why::NoPlace, MAX_WAIT));
    assert!(!refused.retry_after.is_zero());
}

#[tokio::test(start_paused = true)]
async fn u6_newcomer_of_another_cluster_finds_a_place_whatever_namespaces_hang() {
    for (kind, one_cluster) in [(HostKind::Registry, 28), (HostKind::Imds, 3)] {
        let gate = gate();
        let mut hung = Vec::new();
        for number in 0..one_cluster {
            let visit = visit_of("noisy", kind, &format!("invented-{number}"));
            hung.push(gate.enter(visit).await.unwrap());
        }
        let before = Instant::now();
        let newcomer = gate.enter(visit_of("quiet", kind, "web")).await;
        assert!(newcomer.is_ok() && before.elapsed().is_zero());
        let one_more = gate.enter(visit_of("noisy", kind, "one-more")).await;
        assert_eq!(one_more.err().unwrap().why, Why::NoPlace);
    }
}

#[tokio::test(start_paused = true)]
async fn c2_caller_that_goes_away_leaves_no_trace() {
    let gate = gate();
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(gate.enter(visit(HostKind::Imds, "a")).await.unwrap());
    }
    let waiter = spawn_detached({
        let gate = Arc::clone(&gate);
        async move { gate.enter(visit(HostKind::Imds, "a")).await.is_ok() }
    });
    advance(Duration::from_secs(1)).await;
    waiter.abort();
    assert!(waiter.await.is_err());
    held.clear();
    // All places are free: nobody got one who is not there.
    for _ in 0..2 {
        let before = Instant::now();
        held.push(gate.enter(visit(HostKind::Imds, "a")).await.unwrap());
        assert!(before.elapsed().is_zero());
    }
}

#[tokio::test(start_paused = true)]
async fn u4_trial_that_is_dropped_is_the_next_ones() {
    let gate = gate();
    let error = UpstreamError::Malformed("is a test's");
    for _ in 0..5 {
        let place = gate.enter(visit(HostKind::Registry, "a")).await.unwrap();
        place.leave(Outcome::Failed(error.clone()));
    }
    let refused = gate.enter(visit(HostKind::Registry, "a")).await.err().unwrap();
    assert_eq!(refused.why, Why::CircuitOpen(Arc::new(error.clone())));
    assert!(gate.open_circuits().contains(&(HostKind::Registry, 1)));
    advance(Duration::from_secs(60)).await;
    let trial = gate.enter(visit(HostKind::Registry, "a")).await.unwrap();
    gate.enter(visit(HostKind::Registry, "a")).await.err().unwrap();
    drop(trial);
    let trial = gate.enter(visit(HostKind::Registry, "a")).await.unwrap();
    trial.leave(Outcome::Answered);
    assert!(gate.enter(visit(HostKind::Registry, "a")).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn u3_those_who_wait_for_the_rate_start_as_soon_as_it_allows() {
    let (gate, starts) = (gate(), Arc::new(Mutex::new(Vec::new())));
    let before = Instant::now();
    let callers: Vec<_> = (0..12)
        .map(|number| {
            let (gate, starts) = (Arc::clone(&gate), Arc::clone(&starts));
            spawn_detached(async move {
                let place = gate
                    .enter(visit(HostKind::Imds, &format!("n{number}")))
                    .await
                    .unwrap();
                starts.lock().unwrap().push(before.elapsed().as_millis());
                place.leave(Outcome::Answered);
            })
        })
        .collect();
    for caller in callers {
        caller.await.unwrap();
    }
    let expected: Vec<u128> = [0; 4].into_iter().chain((1..=8).map(|step| step * 200)).collect();
    // A timer is late by a millisecond at most.
    let starts = starts.lock().unwrap();
    assert!(
        starts
            .iter()
            .zip(&expected)
            .all(|(at, due)| (*due..=due + 1).contains(at)),
        "{starts:?}"
    );
}
