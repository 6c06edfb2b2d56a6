//! Wakes all bindings when the clock was set or the machine slept. Their timers do not notice: they count the time that
//! passed while the machine was awake.
//!
//! Woken together, most find that nothing is due. Those for which something is ask in the order of their urgency, see
//! [`crate::turns`].

use std::{sync::Arc, time::Duration};

use futures::SinkExt as _;
use runtime::{Clock, Moment, Shutdown};
use tokio::time::{MissedTickBehavior, interval};

use super::Queues;
use crate::{
    binding::{ApiVersion, Bindings},
    leadership::Authority,
};

/// How often the two clocks are compared.
const LOOK: Duration = Duration::from_secs(10);
/// Clocks that are kept right are slewed, or set by less than this.
const STEP: Duration = Duration::from_secs(30);

/// Where the clocks stood when they last agreed.
#[derive(Debug)]
pub(super) struct Clocks(Moment);

/// Which way the time of day went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Ahead(Duration),
    Back(Duration),
}

impl Clocks {
    pub(super) fn at(moment: Moment) -> Self {
        Self(moment)
    }

    /// How far the time of day went besides what passed, if that is worth a look.
    pub(super) fn look(&mut self, moment: Moment) -> Option<Step> {
        let passed = moment.monotonic.saturating_sub(self.0.monotonic);
        let expected = self.0.wall + passed;
        let step = match moment.wall.duration_since(expected) {
            Ok(ahead) => Step::Ahead(ahead),
            Err(behind) => Step::Back(behind.duration()),
        };
        let (Step::Ahead(by) | Step::Back(by)) = step;
        if by < STEP {
            return None;
        }
        self.0 = moment;
        Some(step)
    }
}

/// Watches the clocks until shutdown.
pub(super) async fn watch(
    clock: Arc<dyn Clock>,
    bindings: Bindings,
    mut queues: Queues,
    authority: Authority,
    shutdown: Shutdown,
) {
    let mut clocks = Clocks::at(clock.moment());
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _tick = looks.tick() => {}
            () = shutdown.started() => return,
        }
        // A standby looks at everything when it leads.
        let Some(step) = clocks.look(clock.moment()).filter(|_step| authority.is_given()) else {
            continue;
        };
        tracing::warn!(
            ?step,
            "the clock was set, or the machine slept: looking at all bindings"
        );
        let all = ApiVersion::ALL
            .into_iter()
            .flat_map(|api| bindings.of(api).state());
        for binding in all.collect::<Vec<_>>() {
            // The controller ends first when the process ends.
            if queues
                .bindings
                .of_mut(binding.api)
                .send(binding.key())
                .await
                .is_err()
            {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use futures::{StreamExt as _, channel::mpsc};
    use runtime::clock::ManualClock;

    use super::*;
    use crate::{
        binding::{ApiVersion, PerApi},
        samples::{binding_of, key},
    };

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn clocks_see_a_step_of_either_way_once_and_no_drift() {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + 1000 * HOUR);
        let mut clocks = Clocks::at(clock.moment());
        for _look in 0..1000 {
            clock.advance(LOOK);
            assert_eq!(clocks.look(clock.moment()), None);
        }
        clock.set(clock.now() + HOUR);
        assert_eq!(clocks.look(clock.moment()), Some(Step::Ahead(HOUR)));
        assert_eq!(clocks.look(clock.moment()), None);
        clock.set(clock.now() - 24 * HOUR);
        clock.advance(LOOK);
        assert_eq!(clocks.look(clock.moment()), Some(Step::Back(24 * HOUR)));
        assert_eq!(clocks.look(clock.moment()), None);
        clock.set(clock.now() + Duration::from_secs(2));
        assert_eq!(clocks.look(clock.moment()), None);
    }

    #[tokio::test(start_paused = true)]
    async fn clock_that_is_set_wakes_the_bindings_of_both_apis() {
        let (bindings, mut writers) = Bindings::empty();
        for api in ApiVersion::ALL {
            let event = kube::runtime::watcher::Event::Apply(binding_of(api, "web"));
            writers.of_mut(api).apply_watcher_event(&event);
        }
        let (current_tx, mut current) = mpsc::channel(1);
        let (older_tx, mut older) = mpsc::channel(1);
        let queues = Queues {
            bindings: PerApi {
                v1beta2: current_tx,
                v1beta1: older_tx,
            },
            accounts: mpsc::channel(0).0,
        };
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH + 1000 * HOUR);
        let shutdown = Shutdown::manual();
        let authority = Authority::endless(Arc::new(clock.clone()));
        let watch = watch(
            Arc::new(clock.clone()),
            bindings,
            queues,
            authority,
            shutdown.clone(),
        );
        let watch = runtime::tasks::spawn_detached(watch);
        tokio::time::sleep(10 * LOOK).await;
        assert!(current.try_recv().is_err(), "woken for nothing");
        clock.set(clock.now() - HOUR);
        assert_eq!(current.next().await, Some(key(ApiVersion::V1Beta2, "web")));
        assert_eq!(older.next().await, Some(key(ApiVersion::V1Beta1, "web")));
        shutdown.start();
        watch.await.unwrap();
    }
}
