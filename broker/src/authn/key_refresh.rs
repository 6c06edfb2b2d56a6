//! Keeps the keys of a cluster fresh where they come from a URL: when to fetch, and how long what was fetched is good.
//!
//! Good keys stay until newer good ones arrive: an API server that is down does not lock its own cluster out. They do
//! not stay for ever: whoever can keep their source silent must not keep a key alive that was withdrawn. A source that
//! answers with a key set in which no key is usable is not silent: it has withdrawn them.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use runtime::{Clock, Shutdown, admin::Gate, clock::Moment, error_chain::ErrorChain};
use tokio::time::Instant;

use super::{
    KeyRing, KeySet,
    jwks_fetch::{FetchError, fetch},
    key_files::{Confirmed, KeyFile},
    key_ring::Member,
};
use crate::config::JwksUrl;

/// Keys are fetched again this often; an API server serves them with `max-age=3600`.
const REFRESH_PERIOD: Duration = Duration::from_secs(300);
/// After a failure, sooner: doubling from the first to the second.
const RETRY_PERIODS: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(60));
/// Each wait is drawn from 1 ± this, so that replicas and clusters do not ask in step.
const JITTER: f64 = 0.1;
/// Keys that their source has not confirmed for this long are dropped (guarantee A7).
pub(super) const KEPT_UNCONFIRMED: Duration = Duration::from_secs(24 * 3600);

/// What is known between two attempts.
#[derive(Debug, Default)]
struct Progress {
    confirmed: Option<Confirmation>,
    failures: u32,
}

/// When the keys were last confirmed, by two clocks. The time of day may be set back, and the other one stands still
/// while the machine sleeps: what has passed by the one that says more has passed.
#[derive(Debug)]
struct Confirmation {
    at: SystemTime,
    /// Age of the confirmation when it was noted; what was read from a file has one.
    age: Duration,
    noted_at: Instant,
}

/// Fetches the keys of `member` now and then until `stop`. Those of `file` are good meanwhile. Opens `tried` after the
/// first attempt, whatever came of it: an issuer without keys answers its own callers, and keeps nobody else waiting.
pub async fn keep_fresh(
    member: Member,
    source: JwksUrl,
    file: Option<KeyFile>,
    ring: Arc<KeyRing>,
    clock: Arc<dyn Clock>,
    tried: Option<Gate>,
    stop: Shutdown,
) {
    let refreshing = refresh(
        &member,
        &ring,
        &*clock,
        file.as_ref(),
        || fetch(&source),
        || {
            if let Some(gate) = &tried {
                gate.open();
            }
        },
    );
    tokio::select! {
        () = refreshing => {}
        () = stop.started() => {}
    }
    // A cluster that went before its first attempt was over is waited for by nobody.
    if let Some(gate) = &tried {
        gate.open();
    }
}

async fn refresh<F: Future<Output = Result<KeySet, FetchError>>>(
    member: &Member,
    ring: &KeyRing,
    clock: &dyn Clock,
    file: Option<&KeyFile>,
    mut fetch: impl FnMut() -> F,
    tried: impl Fn(),
) {
    let mut progress = Progress::default();
    if let Some(file) = file
        && let Some(kept) = file.read(clock.now()).await
    {
        progress.resume(member, ring, kept, clock.moment());
    }
    loop {
        member.keys.tried(clock.monotonic());
        let fetched = fetch().await;
        let Moment { wall: now, monotonic } = clock.moment();
        // Keys that another cluster has are left out; the source has answered all the same.
        let outcome = fetched.map(|keys| {
            if ring.admit(member, keys, monotonic) {
                tracing::info!(cluster = %member.cluster, "signing keys loaded");
            }
            now
        });
        let had_keys = progress.confirmed.is_some();
        if outcome.as_ref().is_err_and(FetchError::is_withdrawal) {
            progress.withdraw(member, ring, monotonic);
        }
        let succeeded = outcome.is_ok();
        member.keys.fetched(outcome.map_err(|error| {
            progress.report(member, &error);
            error.as_str()
        }));
        tried();
        let wait = progress.after(succeeded, member, ring, Moment { wall: now, monotonic });
        if let Some(file) = file {
            match member.keys.current() {
                Some(keys) if succeeded => file.write(&keys, &ring.ages(member, monotonic), now).await,
                None if had_keys => file.remove().await,
                Some(_) | None => {}
            }
        }
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = member.keys.refetch_wanted() => {}
        }
    }
}

impl Confirmation {
    fn of(at: SystemTime, now: SystemTime) -> Self {
        Self {
            at,
            age: now.duration_since(at).unwrap_or_default(),
            noted_at: Instant::now(),
        }
    }

    fn age(&self, now: SystemTime) -> Duration {
        let by_wall = now.duration_since(self.at).unwrap_or_default();
        by_wall.max(self.age + self.noted_at.elapsed())
    }
}

impl Progress {
    /// Goes on with keys that an earlier process has fetched, but for those that another cluster has.
    fn resume(&mut self, member: &Member, ring: &KeyRing, kept: Confirmed, now: Moment) {
        let Confirmed { keys, ages, at } = kept;
        self.confirmed = Some(Confirmation::of(at, now.wall));
        member.keys.fetched(Ok(at));
        if ring.resume(member, keys, ages, now.monotonic) {
            tracing::info!(cluster = %member.cluster, "signing keys taken from the file of an earlier run");
        }
    }

    /// The source has answered that it has no keys: to go on with those of before would keep alive what was withdrawn.
    fn withdraw(&mut self, member: &Member, ring: &KeyRing, now: Duration) {
        if self.confirmed.take().is_some() {
            ring.expire(member, now);
            tracing::error!(
                cluster = %member.cluster,
                "its source answers that it has no usable signing key: those of before are dropped, and its callers are refused"
            );
        }
    }

    /// Takes note of an attempt; how long to wait for the next one.
    fn after(&mut self, succeeded: bool, member: &Member, ring: &KeyRing, now: Moment) -> Duration {
        if succeeded {
            *self = Self {
                confirmed: Some(Confirmation::of(now.wall, now.wall)),
                failures: 0,
            };
            return jittered(REFRESH_PERIOD);
        }
        let (first, last) = RETRY_PERIODS;
        let wait = jittered(first.saturating_mul(1 << self.failures.min(8)).min(last));
        self.failures = self.failures.saturating_add(1);
        let Some(confirmed) = &self.confirmed else {
            return wait;
        };
        let left = KEPT_UNCONFIRMED.saturating_sub(confirmed.age(now.wall));
        if left.is_zero() {
            self.confirmed = None;
            ring.expire(member, now.monotonic);
            tracing::error!(
                cluster = %member.cluster,
                "its signing keys were not confirmed for 24 h and are dropped: its callers are refused until they can be fetched"
            );
            return wait;
        }
        wait.min(left)
    }

    /// The first failures are news; after that, one line an hour or so says that it goes on.
    fn report(&self, member: &Member, error: &FetchError) {
        if self.failures < 3 || self.failures.is_multiple_of(64) {
            tracing::warn!(
                cluster = %member.cluster,
                failures = self.failures + 1,
                error = %ErrorChain(error),
                "no fresh signing keys; what is loaded stays"
            );
        } else {
            tracing::debug!(cluster = %member.cluster, error = %ErrorChain(error), "no fresh signing keys");
        }
    }
}

fn jittered(period: Duration) -> Duration {
    period.mul_f64(1.0 - JITTER + 2.0 * JITTER * rand::random::<f64>())
}

#[cfg(test)]
mod tests;
