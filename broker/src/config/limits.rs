//! How often one cluster may ask, and one namespace of it, where nothing else is written.

/// The limits of one cluster, per replica of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// All requests of the cluster's callers together.
    pub per_cluster: Rate,
    /// Those for, or by, one namespace.
    pub per_namespace: Rate,
}

/// So many requests per second, and so many at once after a quiet time. Neither is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run.
    pub requests_per_second: u32,
    /// At once.
    pub burst: u32,
}

impl Default for Limits {
    /// A cluster with 10,000 bindings asks 4.5 times a second: each binding once in 37 minutes, which is half the life of the
    /// shortest token. Started from nothing it asks for all of them at once, and a second time for those that are told to
    /// come back: 20,000, as many as a cache has keys. In the long run a cluster may use what a replica on two cores is
    /// promised to serve (guarantee P1). A namespace has a quarter of all that: more keys than its fifth of the cache.
    fn default() -> Self {
        Self {
            per_cluster: Rate {
                requests_per_second: 2_000,
                burst: 20_000,
            },
            per_namespace: Rate {
                requests_per_second: 500,
                burst: 5_000,
            },
        }
    }
}
