//! Who counts for whom.

use prometheus_client::registry::Registry;

use super::*;
use crate::{
    authn::{self, KeyStore},
    config::{ClusterConfig, DEFAULT_TOKEN_LIFETIME, GrantModes, JwksUrl, KeySource, Rate, Workloads},
    metrics::Metrics,
};

const SYNCER: &str = "system:serviceaccount:acrpull-system:acrpull-syncer";
const LIMITS: Limits = Limits {
    per_cluster: Rate {
        requests_per_second: 10,
        burst: 20,
    },
    per_namespace: Rate {
        requests_per_second: 2,
        burst: 4,
    },
};

fn caller(cluster: &str, subject: &str) -> Caller {
    let config = ClusterConfig {
        name: cluster.into(),
        issuer: "https://issuer.example".to_owned(),
        keys: KeySource::Url(JwksUrl {
            url: "https://issuer.example/keys".parse().unwrap(),
            ca_bundle: None,
            token_file: None,
        }),
        caller_audiences: Vec::new(),
        subject_audiences: Vec::new(),
        max_token_lifetime: DEFAULT_TOKEN_LIFETIME,
        syncers: vec![SYNCER.to_owned()],
        operators: Vec::new(),
        default_tenant: None,
        tenant_ceiling: Vec::new(),
        registry_ceiling: Vec::new(),
        client_certificates: Vec::new(),
        grant_modes: GrantModes::default(),
        workloads: Workloads::default(),
        limits: LIMITS,
    };
    Caller {
        cluster: Arc::new(authn::Cluster {
            config,
            keys: KeyStore::default(),
        }),
        subject: subject.into(),
        evidence: Arc::default(),
    }
}

fn throttle() -> (Throttle, Registry) {
    let mut registry = Registry::default();
    let metrics = Metrics::register(&mut registry);
    (Throttle::new(metrics.clusters()), registry)
}

/// How many of 100 requests at one moment are let through.
fn let_through(
    throttle: &Throttle,
    caller: &Caller,
    namespace: impl Fn(u32) -> String,
    at: Instant,
) -> usize {
    (0..100)
        .filter(|number| {
            let taken = throttle.admit(caller, at);
            taken.is_ok_and(|taken| throttle.admit_for(caller, taken, &namespace(*number), at).is_ok())
        })
        .count()
}

#[tokio::test(start_paused = true)]
async fn u6_cluster_that_invents_namespaces_has_its_own_rate_and_leaves_others_theirs() {
    let (throttle, _registry) = throttle();
    let (noisy, quiet) = (caller("noisy", SYNCER), caller("quiet", SYNCER));
    let at = Instant::now();
    assert_eq!(
        let_through(&throttle, &noisy, |number| format!("n{number}"), at),
        20
    );
    assert_eq!(
        let_through(&throttle, &quiet, |number| format!("n{number}"), at),
        20
    );
    let later = at + Duration::from_secs(1);
    assert_eq!(
        let_through(&throttle, &noisy, |number| format!("m{number}"), later),
        10
    );
}

#[tokio::test(start_paused = true)]
async fn u6_namespace_that_asks_too_often_leaves_the_rest_of_its_cluster_alone() {
    let (throttle, registry) = throttle();
    let syncer = caller("east", SYNCER);
    let at = Instant::now();
    assert_eq!(
        let_through(&throttle, &syncer, |_number| "noisy".to_owned(), at),
        4
    );
    // What it was refused did not count for the cluster.
    for namespace in ["a", "b", "c", "d"] {
        assert_eq!(
            let_through(&throttle, &syncer, |_number| namespace.to_owned(), at),
            4
        );
    }
    assert_eq!(
        throttle.admit(&syncer, at),
        Err(Throttled::Cluster("east".into()))
    );
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &registry).unwrap();
    for (limit, least) in [("namespace", 96), ("cluster", 1)] {
        let series =
            format!("acrpull_broker_throttled_requests_total{{cluster=\"east\",limit=\"{limit}\"}} ");
        let value = page.lines().find_map(|line| line.strip_prefix(&*series)).unwrap();
        assert!(value.parse::<u32>().unwrap() >= least, "{page}");
    }
}

#[tokio::test(start_paused = true)]
async fn u6_caller_that_is_no_syncer_counts_for_its_own_namespace_whatever_it_asks_for() {
    let (throttle, _registry) = throttle();
    let (workload, syncer) = (
        caller("east", "system:serviceaccount:web:app"),
        caller("east", SYNCER),
    );
    let at = Instant::now();
    assert_eq!(
        let_through(&throttle, &workload, |number| format!("n{number}"), at),
        4
    );
    assert_eq!(
        throttle.admit(&workload, at),
        Err(Throttled::Namespace("east".into(), "web".into()))
    );
    assert_eq!(let_through(&throttle, &syncer, |_number| "n1".to_owned(), at), 4);
    assert_eq!(
        let_through(&throttle, &syncer, |number| format!("m{number}"), at),
        20 - 4 - 4,
        "and for its cluster"
    );
}

#[tokio::test(start_paused = true)]
async fn u6_request_that_is_refused_late_leaves_its_cluster_no_more_than_its_rate() {
    let (throttle, _registry) = throttle();
    let syncer = caller("east", SYNCER);
    let early = Instant::now();
    let slow = [(); 20].map(|()| throttle.admit(&syncer, early).unwrap());
    // Their bodies take half a minute, and meanwhile the bucket is full again.
    let late = early + Duration::from_secs(30);
    assert_eq!(
        let_through(&throttle, &syncer, |number| format!("n{number}"), late),
        20
    );
    let refused = slow.map(|taken| throttle.admit_for(&syncer, taken, "noisy", late).is_err());
    assert_eq!(refused.iter().filter(|is_refused| **is_refused).count(), 16);
    assert_eq!(
        let_through(&throttle, &syncer, |number| format!("m{number}"), late),
        0
    );
}
