//! A caller as a syncer is one: it holds a credential and asks again when it was told to.

use std::time::{Duration, SystemTime};

use broker::{
    error::CredentialError,
    expiry::FLOOR,
    request::{Held, Wish},
};

use super::{rig::Rig, scene::Ask};

/// Waits after a failure that says nothing else, as the syncer does.
const RETRY: Duration = Duration::from_secs(10);

/// One binding.
pub(crate) struct Holder {
    pub(crate) ask: Ask,
    pub(crate) held: Option<Held>,
    next_at: SystemTime,
    /// Payloads received: each is a write of a Secret.
    pub(crate) writes: u32,
    pub(crate) degraded: bool,
}

impl Holder {
    pub(crate) fn new(ask: Ask, first_at: SystemTime) -> Self {
        Self {
            ask,
            held: None,
            next_at: first_at,
            writes: 0,
            degraded: false,
        }
    }

    /// Asks if it is time to. `replica` is where its connection happens to lead.
    pub(crate) async fn tick(&mut self, rig: &Rig, replica: usize) -> Option<Result<(), CredentialError>> {
        if rig.now() < self.next_at {
            return None;
        }
        let wish = Wish {
            held: self.held.filter(|held| held.expires_at > rig.now()),
            ..Wish::default()
        };
        let answer = rig.ask_replica(replica, &self.ask, &wish).await;
        let now = rig.now();
        Some(match answer {
            Ok(credential) => {
                if let (Some(held), Some(_payload)) = (wish.held, &credential.payload) {
                    assert!(
                        credential.expires_at > held.expires_at,
                        "a Secret is never replaced by a payload that expires earlier"
                    );
                }
                self.writes += u32::from(credential.payload.is_some());
                self.held = Some(Held {
                    fingerprint: credential.fingerprint,
                    expires_at: credential.expires_at,
                });
                self.degraded = credential.degraded;
                // Up to a twentieth of the life later, as a binding spreads itself.
                let left = credential.expires_at.duration_since(now).unwrap_or_default();
                self.next_at = credential.refresh_at + left.mul_f64(0.05 * rand::random::<f64>());
                Ok(())
            }
            Err(error) => {
                self.next_at = now + error.retry_after.unwrap_or(RETRY);
                Err(error)
            }
        })
    }

    /// What is left of what it holds.
    pub(crate) fn left(&self, now: SystemTime) -> Duration {
        self.held
            .and_then(|held| held.expires_at.duration_since(now).ok())
            .unwrap_or_default()
    }

    /// Whether a Pod that starts now can pull.
    pub(crate) fn can_pull(&self, now: SystemTime) -> bool {
        self.left(now) > Duration::ZERO
    }

    /// Whether what it holds was worth handing out when it last asked.
    pub(crate) fn is_above_the_floor(&self, now: SystemTime) -> bool {
        self.left(now) >= FLOOR
    }
}
