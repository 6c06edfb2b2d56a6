//! The finalizer of Azure/msi-acrpull on a binding: when it is to go, and what it means if it comes back. Pure.
//!
//! The peer puts it on every binding that it works on, and puts it back as soon as it is missing. That makes removing it
//! a question that only a running peer answers: while it is open, nothing is done that a peer might undo. No answer
//! means that the binding is ours; an answer means that two controllers work on it, and then this one stops, because
//! the peer never would.
//!
//! Finalizers of others are not touched. What happens to a binding that is being deleted is in `finalizer::leaving`.

pub mod leaving;

use std::time::Duration;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use kube::ResourceExt as _;
use proto::Reason;
use serde_json::{Value, json};

use crate::{
    binding::Binding,
    problem::Problem,
    pull_secret::REFRESH_REQUESTED,
    schedule::{elapsed, later},
};

/// The finalizer.
pub const PEERS: &str = "msi-acrpull.microsoft.com";
/// A peer that has nothing else to do answers within a second. One that is busy may take longer than this, and then it
/// costs one needless token. Twice as long at most: bindings that are handed over together do not ask together.
const SETTLING: Duration = Duration::from_secs(15);
/// Between two questions while the peer runs, doubling from the one to the other.
const FIRST_PAUSE: Duration = Duration::from_secs(5 * 60);
const LONGEST_PAUSE: Duration = Duration::from_secs(30 * 60);
/// A finalizer that stayed away this long and comes back is another story, told from its beginning.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// What is remembered of the finalizer of one binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handover {
    /// It was removed.
    Removed {
        /// The version that the removal replaced. The watch may go on showing it, with the finalizer, for a while.
        over: String,
        /// From then on the binding is ours, unless the finalizer is back.
        settled_at: Timestamp,
        /// How often it had come back before.
        returns: u32,
    },
    /// It came back.
    Returned {
        /// How often.
        returns: u32,
        /// No other removal before this,
        next_at: Timestamp,
        /// unless somebody wants something new of the binding.
        occasion: Occasion,
    },
    /// Kubernetes does not let it be removed.
    Kept {
        /// How often that was tried.
        tries: u32,
        /// Not before this.
        next_at: Timestamp,
    },
}

/// What somebody wants of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occasion {
    generation: Option<i64>,
    refresh_request: Option<String>,
}

/// Whose a binding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Ours alone.
    Ours,
    /// The peer left its finalizer, and nothing else is known of it.
    Inherited {
        /// The finalizer is to be removed, not before this if it is a time.
        not_before: Option<Timestamp>,
    },
    /// The finalizer was removed, and a running peer would put it back.
    Settling {
        /// Until then it may come.
        until: Timestamp,
    },
    /// The peer put it back.
    Contested {
        /// Nothing is done before this. None means that it is time to remove it again.
        until: Option<Timestamp>,
    },
}

/// Whether the peer's finalizer is on the object.
pub fn is_on(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.iter().flatten().any(|name| name == PEERS)
}

/// What is known after a look at the binding.
pub fn observe(known: Option<Handover>, binding: &Binding, now: Timestamp, draw: f64) -> Option<Handover> {
    let is_there = is_on(&binding.metadata);
    match known {
        Some(Handover::Removed {
            over,
            settled_at,
            returns,
        }) if is_there && binding.resource_version().as_ref() != Some(&over) => {
            let before = if elapsed(settled_at, now) > FORGOTTEN {
                0
            } else {
                returns
            };
            let returns = before.saturating_add(1);
            Some(Handover::Returned {
                returns,
                next_at: later(now, pause(returns, draw)),
                occasion: Occasion::of(binding),
            })
        }
        // Somebody else removed it. Whether it stays away is seen as if it had been this process.
        Some(Handover::Returned { returns, .. }) if !is_there => {
            Some(removed(String::new(), returns, now, draw))
        }
        Some(Handover::Kept { .. }) if !is_there => None,
        known => known,
    }
}

/// Whose the binding is. To be asked after [`observe`].
pub fn claim(known: Option<&Handover>, binding: &Binding, now: Timestamp) -> Claim {
    let is_there = is_on(&binding.metadata);
    match known {
        None if is_there => Claim::Inherited { not_before: None },
        Some(Handover::Removed {
            settled_at, returns, ..
        }) if now < *settled_at => match returns {
            0 => Claim::Settling { until: *settled_at },
            _ => Claim::Contested {
                until: Some(*settled_at),
            },
        },
        None | Some(Handover::Removed { .. }) => Claim::Ours,
        Some(Handover::Returned {
            next_at, occasion, ..
        }) => Claim::Contested {
            until: (now < *next_at && *occasion == Occasion::of(binding)).then_some(*next_at),
        },
        Some(Handover::Kept { next_at, .. }) => Claim::Inherited {
            not_before: (now < *next_at).then_some(*next_at),
        },
    }
}

/// What is known after the finalizer was removed from this version of the binding.
pub fn after_removal(known: Option<&Handover>, over: String, now: Timestamp, draw: f64) -> Handover {
    let returns = match known {
        Some(Handover::Returned { returns, .. } | Handover::Removed { returns, .. }) => *returns,
        Some(Handover::Kept { .. }) | None => 0,
    };
    removed(over, returns, now, draw)
}

/// What is known after Kubernetes refused to have it removed.
pub fn after_refusal(known: Option<&Handover>, binding: &Binding, now: Timestamp, draw: f64) -> Handover {
    match known {
        // It is still the peer's, and the next question can wait as long as if it had been answered.
        Some(Handover::Returned { returns, .. }) => Handover::Returned {
            returns: *returns,
            next_at: later(now, pause(*returns, draw)),
            occasion: Occasion::of(binding),
        },
        Some(Handover::Kept { .. } | Handover::Removed { .. }) | None => {
            let tries = match known {
                Some(Handover::Kept { tries, .. }) => tries.saturating_add(1),
                Some(_) | None => 1,
            };
            Handover::Kept {
                tries,
                next_at: later(now, pause(tries, draw)),
            }
        }
    }
}

/// The merge patch that removes it and nothing else: the list is replaced whole, so it holds for this version only.
pub fn removal(metadata: &ObjectMeta) -> Value {
    let others: Vec<&String> = metadata
        .finalizers
        .iter()
        .flatten()
        .filter(|name| *name != PEERS)
        .collect();
    json!({"metadata": {
        "uid": metadata.uid,
        "resourceVersion": metadata.resource_version,
        "finalizers": others,
    }})
}

/// What the status says of a binding that is contested.
pub fn duplicate() -> Problem {
    Problem::new(
        Reason::DuplicateController,
        format!(
            "another controller put the finalizer {PEERS} back: end Azure/msi-acrpull, or give the two different label \
             selectors; until then nothing is written here"
        ),
    )
}

fn removed(over: String, returns: u32, now: Timestamp, draw: f64) -> Handover {
    Handover::Removed {
        over,
        settled_at: later(now, SETTLING.mul_f64(1.0 + draw)),
        returns,
    }
}

fn pause(times: u32, draw: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1_u32 << times.saturating_sub(1).min(16));
    doubled.min(LONGEST_PAUSE).mul_f64(1.0 - draw / 10.0)
}

impl Occasion {
    fn of(binding: &Binding) -> Self {
        Self {
            generation: binding.metadata.generation,
            refresh_request: binding.annotations().get(REFRESH_REQUESTED).cloned(),
        }
    }
}

impl Claim {
    /// Whether the finalizer is to be removed now, from a binding that nobody contests.
    pub fn is_removal_due(self) -> bool {
        self == Self::Inherited { not_before: None }
    }
}

#[cfg(test)]
pub(crate) mod tests;
