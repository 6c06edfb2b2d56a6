//! Where several clusters ask at once: none gets more by naming more namespaces.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use proto::{Reason, types::ScopeSet};
use runtime::tasks::spawn_detached;
use tokio::time::{Instant, sleep};

use super::rig::{Rig, attempt_of, token};

const REGISTRY: &str = "r.azurecr.io";

/// Asks once for a token of a scope that nobody else asks for; whether it was sent.
async fn ask(rig: &Rig, cluster: &str, namespace: &str, number: usize) -> bool {
    let scope = format!("repository:{cluster}/{namespace}/{number}:pull");
    let scopes = ScopeSet::from_field(&scope).unwrap();
    let refresh = "t".to_owned().into();
    let attempt = attempt_of(cluster, namespace);
    let host = REGISTRY.parse().unwrap();
    let answer = rig.azure.access_token(&host, &refresh, &scopes, &attempt).await;
    // The script knows refresh tokens only: what it answers is malformed, and an answer.
    answer.is_err_and(|error| error.reason == Reason::UpstreamMalformed)
}

/// How often each cluster was served, of the first so many calls: one of them asks 3,000 times over 1,000 namespaces, the
/// others so many times for one namespace each.
async fn shares(quiet: usize, of_each: usize, first: usize) -> BTreeMap<String, usize> {
    let rig = Arc::new(Rig::new(|sent| token(Duration::from_millis(10), &sent.host)));
    let served = Arc::new(Mutex::new(Vec::new()));
    let mut callers = Vec::new();
    let noisy = (0..3000).map(|number| ("noisy".to_owned(), format!("invented-{}", number % 1000), number));
    let quiet = (0..quiet).flat_map(|cluster| {
        (0..of_each).map(move |number| (format!("quiet-{cluster}"), "web".to_owned(), number))
    });
    for (cluster, namespace, number) in noisy.chain(quiet) {
        let (rig, served) = (Arc::clone(&rig), Arc::clone(&served));
        callers.push(spawn_detached(async move {
            if ask(&rig, &cluster, &namespace, number).await {
                served.lock().unwrap().push(cluster);
            }
        }));
    }
    for caller in callers {
        caller.await.unwrap();
    }
    let mut shares = BTreeMap::new();
    // Those who came first had the places to themselves.
    for cluster in served.lock().unwrap().iter().skip(32).take(first) {
        *shares.entry(cluster.clone()).or_default() += 1;
    }
    shares
}

#[tokio::test(start_paused = true)]
async fn u6_cluster_with_a_thousand_namespaces_has_half_beside_a_cluster_with_one() {
    // The burst of 2,000 calls, and then some at the rate.
    let shares = shares(1, 1200, 2200).await;
    assert!((1050..=1150).contains(&shares["quiet-0"]), "{shares:?}");
    assert!((1050..=1150).contains(&shares["noisy"]), "{shares:?}");
}

#[tokio::test(start_paused = true)]
async fn u6_cluster_with_a_thousand_namespaces_has_a_sixth_beside_five_others() {
    let shares = shares(5, 180, 900).await;
    assert_eq!(shares.len(), 6);
    assert!(
        shares.values().all(|share| (140..=160).contains(share)),
        "{shares:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn u6_namespace_of_a_quiet_cluster_is_served_at_once_whatever_a_noisy_cluster_has_waiting() {
    let rig = Arc::new(Rig::new(|sent| token(Duration::from_millis(100), &sent.host)));
    let noisy: Vec<_> = (0..10_000)
        .map(|number| {
            let rig = Arc::clone(&rig);
            let namespace = format!("invented-{number}");
            spawn_detached(async move { ask(&rig, "noisy", &namespace, number).await })
        })
        .collect();
    sleep(Duration::from_secs(1)).await;
    for number in 0..20 {
        let asked = Instant::now();
        assert!(ask(&rig, "quiet", "web", number).await);
        // A place is free at once, or with the next call that ends.
        assert!(asked.elapsed() <= Duration::from_millis(200));
    }
    for caller in noisy {
        caller.await.unwrap();
    }
}
