//! What is done for a binding that Azure/msi-acrpull may still be working on: as little as keeps its Pods pulling.
//!
//! Both write the same Secret, and each takes what it finds there for its own if the peer's annotations fit: expiry and
//! hash. So a token of the peer's is left alone while it is valid, and there is nothing to answer each other with. A
//! Secret that is replaced as soon as the other one has written it would cost a token per write, for ever.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use super::{Link, Plan, Step};
use crate::{
    finalizer::{self, Claim},
    pull_secret::{Credential, PullSecret},
};

/// A token with less than this left is replaced whoever may be at work: the peer renews its tokens half an hour before
/// they end, or at half of their life, so nobody else has done it.
const LEAST_LEFT: Duration = Duration::from_secs(10 * 60);

/// The peer runs. Nothing is written, or the finalizer alone, which asks it again.
pub(super) fn contested(
    link: Link,
    inputs: Option<String>,
    secret: Option<&PullSecret>,
    until: Option<Timestamp>,
    now: Timestamp,
) -> Plan {
    let held = secret.and_then(|secret| secret.credential.as_ref());
    let ends_at = ends_at(held, secret).filter(|at| *at > now);
    let (steps, wake_at) = match until {
        None => (vec![Step::Release], None),
        // The status says it when a token ends.
        Some(until) => (Vec::new(), Some(ends_at.map_or(until, |at| at.min(until)))),
    };
    Plan {
        steps,
        link,
        may_link: false,
        inputs,
        problem: Some(finalizer::duplicate()),
        wake_at,
    }
}

/// When what is held ends, or else the token of the peer's in the Secret: the status is to say so then.
pub(super) fn ends_at(held: Option<&Credential>, secret: Option<&PullSecret>) -> Option<Timestamp> {
    let ours = held.map(|held| held.expires_at);
    ours.or_else(|| Some(secret?.peers?.expires_at))
}

/// Until when the broker need not be asked, because it is not known yet whether the peer is gone, and the token in the
/// Secret is valid.
pub(super) fn may_wait(
    claim: Claim,
    held: Option<&Credential>,
    secret: Option<&PullSecret>,
    now: Timestamp,
) -> Option<Timestamp> {
    let until = match claim {
        Claim::Inherited { not_before } => not_before,
        Claim::Settling { until } => Some(until),
        Claim::Ours | Claim::Contested { .. } => return None,
    };
    let too_late = ends_at(held, secret)?.saturating_sub(LEAST_LEFT).ok()?;
    (now < too_late).then(|| until.map_or(too_late, |until| until.min(too_late)))
}
