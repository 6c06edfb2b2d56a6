//! How much each kind of host is asked at most, and where the numbers come from.

use std::time::Duration;

pub(super) use runtime::retry_after::LONGEST as LONGEST_PAUSE;

use crate::azure::transport::Endpoint;

/// Calls in flight to all hosts together (guarantee U4).
pub(super) const PLACES: Places = Places::of(256);
/// Callers that wait for one host. More would wait in vain: in [`MAX_WAIT`] a host starts 2,500 calls at the very most.
pub(super) const WAITING_PER_HOST: usize = 4096;
/// Longest wait for a place or for the rate. It leaves room for the call itself within a caller's 30 s.
pub(super) const MAX_WAIT: Duration = Duration::from_secs(5);
/// Hosts that are remembered. Names of registries come from bindings, so there must be a bound.
pub(super) const HOSTS: usize = 4096;

/// A shorter one would be a hot loop.
pub(super) const SHORTEST_PAUSE: Duration = Duration::from_secs(1);

/// What kind of host is asked. Its name is a label in metrics; the host's own never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(in crate::azure) enum HostKind {
    /// An Entra authority.
    Entra,
    /// The instance metadata service of this machine.
    Imds,
    /// A registry: both of its token endpoints share one budget, as they do on its side.
    Registry,
}

/// How many calls may be in flight, and what one cluster and one namespace may hold of that. The rest is for those who come
/// next: a newcomer never waits for a hung host's whole timeout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Places {
    pub(super) all: u32,
    /// One cluster alone, whatever namespaces it names.
    pub(super) per_cluster: u32,
    /// One namespace alone.
    pub(super) per_namespace: u32,
}

/// The budget of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Calls in flight.
    pub(super) places: Places,
    /// Calls that may start at once after a quiet time.
    pub(super) burst: u32,
    /// One more call may start every so often.
    pub(super) interval: Duration,
    /// The pause after a 429 that names no time ...
    pub(super) unannounced_pause: Duration,
    /// ... doubles with each one in a row up to this.
    pub(super) longest_unannounced_pause: Duration,
}

impl Places {
    /// An eighth is kept for other clusters, and as much again for other namespaces.
    const fn of(all: u32) -> Self {
        Self {
            all,
            per_cluster: all - all / 8,
            per_namespace: all - all / 4,
        }
    }
}

impl HostKind {
    /// Every kind.
    pub(in crate::azure) const ALL: [Self; 3] = [Self::Entra, Self::Imds, Self::Registry];

    pub(in crate::azure) const fn of(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Entra => Self::Entra,
            Endpoint::Imds => Self::Imds,
            Endpoint::Exchange | Endpoint::Token => Self::Registry,
        }
    }

    /// Label in metrics.
    pub(in crate::azure) const fn as_str(self) -> &'static str {
        match self {
            Self::Entra => "entra",
            Self::Imds => "imds",
            Self::Registry => "acr",
        }
    }

    pub(super) const fn limits(self) -> Limits {
        match self {
            // Entra publishes no threshold; its own answer to over-use is 429 with 60 s.
            Self::Entra => Limits {
                places: Places::of(32),
                burst: 2000,
                interval: Duration::from_millis(10),
                unannounced_pause: Duration::from_secs(60),
                longest_unannounced_pause: Duration::from_secs(60),
            },
            // The whole virtual machine may have 5 in flight and start 20 per second, and other pods ask too: 4 in
            // flight, and never more than 4 + 5 in any second (guarantee U3).
            Self::Imds => Limits {
                places: Places {
                    all: 4,
                    per_cluster: 3,
                    per_namespace: 2,
                },
                burst: 4,
                interval: Duration::from_millis(200),
                unannounced_pause: Duration::from_secs(60),
                longest_unannounced_pause: Duration::from_secs(60),
            },
            // A Basic or Standard registry allows 10,000 OAuth requests per minute for everybody, kubelets included.
            // 2,000 at once and 100 per second are at most 8,000 in any minute. It names a time with each 429; the
            // front door before it does not, and lets up within seconds, so that pause begins short.
            Self::Registry => Limits {
                places: Places::of(32),
                burst: 2000,
                interval: Duration::from_millis(10),
                unannounced_pause: Duration::from_secs(10),
                longest_unannounced_pause: Duration::from_secs(60),
            },
        }
    }
}
