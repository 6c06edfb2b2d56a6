//! What one cluster can take from others, whatever namespaces it names.

use futures::FutureExt as _;

use super::*;

const BOUNDS: Bounds = Bounds {
    keys: 160,
    bytes: 1 << 20,
};

struct Clusters {
    cache: Cache,
    clock: ManualClock,
    registry: Registry,
}

impl Clusters {
    fn new() -> Self {
        let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_000_000));
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry).cache("test");
        Self {
            cache: Cache::new(BOUNDS, |value| value.len(), Arc::new(clock.clone()), metrics),
            clock,
            registry,
        }
    }

    /// Asks for a key, in a namespace of its own; whether there is a token.
    async fn ask(&self, cluster: &str, key: u32) -> bool {
        let now = self.clock.moment();
        let fetch = |_departure| async move {
            Ok(Token {
                value: "token",
                lifetime: Lifetime::new(now, now.wall + Duration::from_secs(100_000), 0.0),
            })
        };
        let tenant = tenant_of(cluster, &format!("n{key}"));
        let served = self.cache.get(&key, &tenant, |_current| Need::default(), fetch);
        served.await.is_ok()
    }

    /// How many of these are there.
    fn held(&self, keys: std::ops::Range<u32>) -> usize {
        keys.filter(|key| self.cache.inspect(key).token.is_some()).count()
    }
}

#[tokio::test]
async fn u6_cluster_alone_uses_the_whole_cache_and_makes_room_for_another() {
    let rig = Clusters::new();
    for key in 0..200 {
        assert!(rig.ask("noisy", key).await, "alone, nothing is refused");
    }
    rig.cache.maintain();
    assert_eq!(rig.held(0..200), 160);
    rig.clock.advance(Duration::from_secs(1));
    // The noisy one uses some of its keys all the time.
    for round in 0..7 {
        for key in 140..200 {
            rig.ask("noisy", key).await;
        }
        for key in 0..10 {
            assert!(rig.ask("quiet", 1000 + 10 * round + key).await);
        }
        rig.clock.advance(Duration::from_secs(10));
        rig.cache.maintain();
        for key in 0..100 {
            rig.ask("noisy", 5000 + 100 * round + key).await;
        }
        // Where it has given way by a part of a key too much, it may have one.
        let new = rig.held(5000 + 100 * round..5100 + 100 * round);
        assert!(new <= 1, "{new} new ones, with more than its half");
    }
    // Less than half of 160 each: the quiet one lost none, and what the noisy one used stays as well.
    assert_eq!(rig.held(1000..1070), 70);
    assert_eq!(rig.held(140..200), 60);
}

#[tokio::test]
async fn u6_new_keys_are_counted_by_cluster() {
    let rig = Clusters::new();
    for key in [1, 2, 3, 2, 1] {
        rig.ask("east", key).await;
    }
    rig.ask("west", 9).await;
    let mut page = String::new();
    prometheus_client::encoding::text::encode(&mut page, &rig.registry).unwrap();
    for (cluster, keys) in [("east", 3), ("west", 1)] {
        let series =
            format!("acrpull_broker_new_keys_total{{cache=\"test\",cluster=\"{cluster}\"}} {keys}\n");
        assert!(page.contains(&series), "{page}");
    }
}

#[tokio::test]
async fn u6_cluster_that_fetches_in_a_thousand_namespaces_leaves_half_of_the_fetches_to_another() {
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_000_000));
    let bounds = Bounds {
        keys: 1_000_000,
        bytes: 1 << 40,
    };
    let metrics = Metrics::register(&mut Registry::default()).cache("test");
    let cache = Cache::new(bounds, |value| value.len(), Arc::new(clock), metrics);
    let waits = |cluster: &str, namespace: u32, key: u32| {
        let hang = |_departure| std::future::pending();
        let tenant = tenant_of(cluster, &format!("n{namespace}"));
        cache
            .get(&key, &tenant, |_current| Need::default(), hang)
            .now_or_never()
            .is_none()
    };
    let waiting = |cluster: &str, namespaces: u32, keys: std::ops::Range<u32>| {
        keys.filter(|key| waits(cluster, key % namespaces, *key)).count()
    };
    let all = quotas::MAX_FLIGHTS;
    assert_eq!(waiting("noisy", 1000, 0..10_000), all - all / 8);
    // An eighth is there at once for the next one.
    assert_eq!(waiting("quiet", 3, 10_000..20_000), all / 8);
    assert!(
        !waits("noisy", 1, 30_000),
        "with more than half, it waits for its own"
    );
}
