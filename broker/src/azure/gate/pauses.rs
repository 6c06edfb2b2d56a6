//! Who asked for fewer requests, and until when. Nothing is sent before that; then one call tries first.
//!
//! A registry and the metadata service speak for themselves as a whole. Entra speaks to one client of one tenant, and
//! the others on the same authority are not touched.

use std::{collections::HashMap, time::Duration};

use proto::types::{AzureId, TenantId};
use tokio::time::Instant;

use super::{
    barrier::Barrier,
    limits::{LONGEST_PAUSE, Limits, SHORTEST_PAUSE},
};

/// Pauses remembered per host. Tenants and clients come from bindings, so there must be a bound.
const PAUSES: usize = 1024;

/// Whom a 429 concerns.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(in crate::azure) enum PauseScope {
    /// All calls to the host.
    Host,
    /// Calls for one client of one tenant.
    Client(TenantId, AzureId),
}

/// The pauses of one host.
#[derive(Debug, Default)]
pub(super) struct Pauses(HashMap<PauseScope, Pause>);

#[derive(Debug)]
struct Pause {
    barrier: Barrier,
    /// In a row, without a time.
    unannounced: u32,
}

impl Pauses {
    /// Whether a call may be made, and whether it is the one that tries; or how long not.
    pub(super) fn check(&self, scope: &PauseScope, now: Instant) -> Result<bool, Duration> {
        match self.0.get(scope) {
            None => Ok(false),
            Some(pause) => pause.barrier.closed_for(now).map_or(Ok(true), Err),
        }
    }

    /// When the last one ends. None that is still to come: no pause.
    pub(super) fn last_end(&self, now: Instant) -> Option<Instant> {
        let ends = self.0.values().map(|pause| pause.barrier.ends_at());
        ends.max().filter(|end| *end > now)
    }

    pub(super) fn start_trial(&mut self, scope: &PauseScope) {
        if let Some(pause) = self.0.get_mut(scope) {
            pause.barrier.start_trial();
        }
    }

    pub(super) fn end_trial(&mut self, scope: &PauseScope) {
        if let Some(pause) = self.0.get_mut(scope) {
            pause.barrier.end_trial();
        }
    }

    /// An answer that asks for nothing. Only the one that tried ends a pause; the others were sent before it. And even
    /// that ends none which another answer has made longer meanwhile.
    pub(super) fn answered(&mut self, scope: &PauseScope, is_trial: bool, now: Instant) {
        let Some(pause) = self.0.get_mut(scope).filter(|_| is_trial) else {
            return;
        };
        if pause.barrier.ends_at() > now {
            pause.barrier.end_trial();
        } else {
            self.0.remove(scope);
        }
    }

    /// An answer that asks for a pause, of `wait` if it names a time. Returns when the pause ends now.
    pub(super) fn throttled(
        &mut self,
        scope: &PauseScope,
        is_trial: bool,
        wait: Option<Duration>,
        limits: &Limits,
        now: Instant,
    ) -> Instant {
        if !self.0.contains_key(scope) && self.0.len() >= PAUSES {
            self.forget_the_next_to_end();
        }
        let pause = self.0.entry(scope.clone()).or_insert_with(|| Pause {
            barrier: Barrier::until(now),
            unannounced: 0,
        });
        // Answers to one burst are one event, however many they are.
        let is_new = is_trial || pause.barrier.ends_at() <= now;
        pause.unannounced = match wait {
            Some(_) => 0,
            None => pause.unannounced + u32::from(is_new),
        };
        let wait = wait.map_or_else(
            || {
                let doublings = pause.unannounced.saturating_sub(1).min(16);
                (limits.unannounced_pause * 2_u32.pow(doublings)).min(limits.longest_unannounced_pause)
            },
            |wait| wait.clamp(SHORTEST_PAUSE, LONGEST_PAUSE),
        );
        if is_trial {
            pause.barrier.end_trial();
        }
        pause.barrier.extend(now + wait);
        pause.barrier.ends_at()
    }

    fn forget_the_next_to_end(&mut self) {
        let next = self
            .0
            .iter()
            .min_by_key(|(_, pause)| pause.barrier.ends_at())
            .map(|(scope, _)| scope.clone());
        if let Some(scope) = next {
            self.0.remove(&scope);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::limits::HostKind, *};

    const SECOND: Duration = Duration::from_secs(1);

    fn throttle(pauses: &mut Pauses, wait: Option<Duration>, kind: HostKind, now: Instant) -> u64 {
        let end = pauses.throttled(&PauseScope::Host, true, wait, &kind.limits(), now);
        (end - now).as_secs()
    }

    #[test]
    fn u1_pause_is_as_long_as_was_asked_within_bounds() {
        for (asked, seconds) in [(0, 1), (1, 1), (7, 7), (3600, 3600), (99_999, 3600)] {
            let asked = Some(Duration::from_secs(asked));
            let pause = throttle(&mut Pauses::default(), asked, HostKind::Registry, Instant::now());
            assert_eq!(pause, seconds);
        }
    }

    #[test]
    fn u1_pause_without_a_time_is_a_minute_and_at_a_registry_grows_to_it() {
        let now = Instant::now();
        let mut registry = Pauses::default();
        let mut row = Vec::new();
        for step in 0..5 {
            row.push(throttle(
                &mut registry,
                None,
                HostKind::Registry,
                now + step * 60 * SECOND,
            ));
        }
        assert_eq!(row, [10, 20, 40, 60, 60]);
        for kind in [HostKind::Entra, HostKind::Imds] {
            assert_eq!(throttle(&mut Pauses::default(), None, kind, now), 60);
        }
    }

    #[test]
    fn u1_of_concurrent_answers_the_later_end_wins_and_success_ends_nothing() {
        let (now, limits) = (Instant::now(), HostKind::Registry.limits());
        let mut pauses = Pauses::default();
        for wait in [5, 30, 10] {
            pauses.throttled(&PauseScope::Host, false, Some(wait * SECOND), &limits, now);
        }
        pauses.answered(&PauseScope::Host, false, now);
        assert_eq!(pauses.check(&PauseScope::Host, now), Err(30 * SECOND));
        let end = now + 30 * SECOND;
        assert_eq!(pauses.check(&PauseScope::Host, end), Ok(true));
        pauses.start_trial(&PauseScope::Host);
        pauses.check(&PauseScope::Host, end + 10 * SECOND).unwrap_err();
        pauses.throttled(&PauseScope::Host, false, Some(20 * SECOND), &limits, end);
        pauses.answered(&PauseScope::Host, true, end);
        assert_eq!(
            pauses.check(&PauseScope::Host, end),
            Err(20 * SECOND),
            "longer than the trial knew"
        );
        let end = end + 20 * SECOND;
        pauses.start_trial(&PauseScope::Host);
        pauses.answered(&PauseScope::Host, true, end);
        assert_eq!(pauses.check(&PauseScope::Host, end), Ok(false));
    }

    #[test]
    fn u1_pause_at_entra_is_of_one_client_of_one_tenant() {
        let scope = |tenant: u8, client: u8| {
            let id = |digit: u8| format!("0000000{digit}-0000-0000-0000-000000000000");
            PauseScope::Client(id(tenant).parse().unwrap(), id(client).parse().unwrap())
        };
        let (now, limits) = (Instant::now(), HostKind::Entra.limits());
        let mut pauses = Pauses::default();
        pauses.throttled(&scope(1, 1), false, None, &limits, now);
        assert_eq!(pauses.check(&scope(1, 1), now), Err(60 * SECOND));
        for other in [scope(1, 2), scope(2, 1)] {
            assert_eq!(pauses.check(&other, now), Ok(false));
        }
    }

    #[test]
    fn pauses_are_bounded() {
        let (now, limits) = (Instant::now(), HostKind::Entra.limits());
        let mut pauses = Pauses::default();
        for number in 0..2 * PAUSES {
            let tenant = format!("tenant{number}.example").parse().unwrap();
            let client = "00000001-0000-0000-0000-000000000000".parse().unwrap();
            pauses.throttled(&PauseScope::Client(tenant, client), false, None, &limits, now);
        }
        assert_eq!(pauses.0.len(), PAUSES);
    }
}
