//! Time as a value that is passed in, so that everything that depends on it can be tested without waiting.

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant, SystemTime},
};

/// Tells the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// The time of day: what the expiry of a token is written in. It can be set, forwards and backwards.
    fn now(&self) -> SystemTime;

    /// Time since some moment of this process: it never goes back, and stands still while the machine sleeps.
    fn monotonic(&self) -> Duration;

    /// Both at once.
    fn moment(&self) -> Moment {
        Moment {
            wall: self.now(),
            monotonic: self.monotonic(),
        }
    }
}

/// A moment by both clocks. Neither alone can be trusted with an expiry: the one may be set back, the other sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time of day.
    pub wall: SystemTime,
    /// Time that only passes.
    pub monotonic: Duration,
}

/// The clock of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place where the clock of the machine is read"
    )]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }

    fn monotonic(&self) -> Duration {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed()
    }
}

/// A clock that moves only when told. Clones are the same clock.
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Moment>>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: SystemTime) -> Self {
        Self(Arc::new(Mutex::new(Moment {
            wall: now,
            monotonic: Duration::ZERO,
        })))
    }

    /// Lets time pass.
    pub fn advance(&self, by: Duration) {
        let mut moment = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        moment.wall += by;
        moment.monotonic += by;
    }

    /// Somebody sets the time of day; no time passes.
    pub fn set(&self, now: SystemTime) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).wall = now;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> SystemTime {
        self.moment().wall
    }

    fn monotonic(&self) -> Duration {
        self.moment().monotonic
    }

    fn moment(&self) -> Moment {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
