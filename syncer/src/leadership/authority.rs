//! Whether this process may write, asked before and during every write to Kubernetes. Does not know where the answer
//! comes from.
//!
//! It ends by the clock and not by a message: a process that was held up, and does not know yet that it was, may write
//! nothing when it goes on.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use runtime::Clock;
use tokio::sync::watch;

/// Clones are the same authority.
#[derive(Debug, Clone)]
pub struct Authority {
    clock: Arc<dyn Clock>,
    span: Arc<watch::Sender<Span>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Span {
    /// There is none, not yet or not any more.
    None,
    /// Up to this time of the monotonic clock.
    Until(Duration),
    /// There is no other process.
    Endless,
}

impl Authority {
    /// Of a process that has to become the leader first.
    pub fn to_be_given(clock: Arc<dyn Clock>) -> Self {
        Self::with(clock, Span::None)
    }

    /// Of a process that is alone.
    pub fn endless(clock: Arc<dyn Clock>) -> Self {
        Self::with(clock, Span::Endless)
    }

    fn with(clock: Arc<dyn Clock>, span: Span) -> Self {
        Self {
            clock,
            span: Arc::new(watch::Sender::new(span)),
        }
    }

    /// Gives it, or prolongs it, up to a time of the monotonic clock.
    pub fn give_until(&self, until: Duration) {
        self.span.send_replace(Span::Until(until));
    }

    /// Takes it back.
    pub fn take_back(&self) {
        self.span.send_replace(Span::None);
    }

    /// Whether this process may write.
    pub fn is_given(&self) -> bool {
        self.left().is_some()
    }

    /// Waits until it is given.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn given(&self) {
        let mut span = self.span.subscribe();
        while !self.is_given() {
            if span.changed().await.is_err() {
                // Cannot be: this very authority holds the sender.
                return;
            }
        }
    }

    /// Does `work` as long as it is given. None when it was not, or not to the end: the work was dropped, and what it
    /// had sent may take effect.
    ///
    /// # Cancel safety
    /// As safe as `work`.
    pub async fn during<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        let mut over = pin!(self.over());
        poll_fn(|context| {
            // By the clock, at each step: timers of a process that was held up may fire after what else wakes it.
            if !self.is_given() || over.as_mut().poll(context).is_ready() {
                return Poll::Ready(None);
            }
            work.as_mut().poll(context).map(Some)
        })
        .await
    }

    /// Waits until it is not given.
    async fn over(&self) {
        let mut span = self.span.subscribe();
        loop {
            span.borrow_and_update();
            let Some(left) = self.left() else { return };
            tokio::select! {
                () = tokio::time::sleep(left) => {}
                changed = span.changed() => if changed.is_err() { return },
            }
        }
    }

    /// How long it lasts if nobody prolongs it.
    fn left(&self) -> Option<Duration> {
        match *self.span.borrow() {
            Span::None => None,
            Span::Until(until) => until
                .checked_sub(self.clock.monotonic())
                .filter(|left| !left.is_zero()),
            Span::Endless => Some(Duration::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicUsize, Ordering},
        time::SystemTime,
    };

    use runtime::clock::ManualClock;

    use super::*;

    const TEN: Duration = Duration::from_secs(10);

    fn authority() -> (ManualClock, Authority) {
        let clock = ManualClock::at(SystemTime::UNIX_EPOCH);
        (clock.clone(), Authority::to_be_given(Arc::new(clock)))
    }

    /// A write of two steps that counts them, with time passing in between.
    async fn write(steps: &AtomicUsize, between: impl FnOnce()) {
        steps.fetch_add(1, Ordering::Relaxed);
        between();
        tokio::task::yield_now().await;
        steps.fetch_add(1, Ordering::Relaxed);
    }

    #[tokio::test]
    async fn authority_that_is_not_given_begins_no_work() {
        let (_clock, authority) = authority();
        let steps = AtomicUsize::new(0);
        assert_eq!(authority.during(write(&steps, || {})).await, None);
        assert_eq!(steps.into_inner(), 0);
    }

    #[tokio::test]
    async fn authority_that_ends_while_the_process_is_held_up_ends_the_work_at_its_next_step() {
        let (clock, authority) = authority();
        authority.give_until(TEN);
        let steps = AtomicUsize::new(0);
        let held_up = write(&steps, || clock.advance(TEN));
        assert_eq!(authority.during(held_up).await, None);
        assert_eq!(steps.into_inner(), 1, "the second step was done");
        assert!(!authority.is_given());
    }

    #[tokio::test]
    async fn authority_that_is_prolonged_in_time_lets_the_work_end() {
        let (clock, authority) = authority();
        authority.give_until(TEN);
        let steps = AtomicUsize::new(0);
        let work = write(&steps, || {
            authority.give_until(2 * TEN);
            clock.advance(TEN);
        });
        assert_eq!(authority.during(work).await, Some(()));
        assert_eq!(steps.into_inner(), 2);
    }

    #[tokio::test]
    async fn authority_that_is_taken_ends_work_that_waits() {
        let (_clock, authority) = authority();
        authority.give_until(TEN);
        let waiting = authority.during(std::future::pending::<()>());
        let (done, ()) = tokio::join!(waiting, async { authority.take_back() });
        assert_eq!(done, None);
    }

    #[tokio::test]
    async fn authority_is_waited_for() {
        let (clock, authority) = authority();
        tokio::join!(authority.given(), async { authority.give_until(TEN) });
        clock.advance(TEN);
        assert!(!authority.is_given());
        let endless = Authority::endless(Arc::new(clock));
        endless.given().await;
        assert_eq!(endless.during(async { 1 }).await, Some(1));
    }
}
