//! Which objects are due, and when: each stands here once, however often it is woken, and is handed out to one at a time.
//! Knows nothing of passes.

use std::{
    collections::{HashMap, hash_map::Entry},
    future::poll_fn,
    hash::Hash,
    task::Poll,
};

use tokio::time::Instant;
use tokio_util::time::{DelayQueue, delay_queue};

/// The objects by their names. Whatever is asked of it costs the same however many there are.
pub(super) struct Agenda<R> {
    due: DelayQueue<R>,
    standing: HashMap<R, Standing>,
}

enum Standing {
    /// It is handed out at this time.
    Due { at: Instant, key: delay_queue::Key },
    /// It was handed out. If it was woken since, it is due again.
    Out { again_at: Option<Instant> },
}

impl<R> Default for Agenda<R> {
    fn default() -> Self {
        Self {
            due: DelayQueue::new(),
            standing: HashMap::new(),
        }
    }
}

impl<R: Clone + Eq + Hash> Agenda<R> {
    /// It is due at this time, or before if it was already. One that is out is due as soon as it is back, if that is
    /// later.
    pub(super) fn wake(&mut self, object: R, at: Instant) {
        match self.standing.entry(object) {
            Entry::Vacant(entry) => {
                let key = self.due.insert_at(entry.key().clone(), at);
                entry.insert(Standing::Due { at, key });
            }
            Entry::Occupied(mut entry) => match entry.get_mut() {
                Standing::Due { at: before, key } if at < *before => {
                    self.due.reset_at(key, at);
                    *before = at;
                }
                Standing::Due { .. } => {}
                Standing::Out { again_at } => *again_at = Some(again_at.map_or(at, |before| before.min(at))),
            },
        }
    }

    /// The next one, as soon as it is due; it is out then. Nothing is lost if it is not waited for.
    pub(super) async fn next(&mut self) -> R {
        let object = poll_fn(|context| match self.due.poll_expired(context) {
            Poll::Ready(Some(expired)) => Poll::Ready(expired.into_inner()),
            // Empty: whoever fills it asks again.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        })
        .await;
        self.standing
            .insert(object.clone(), Standing::Out { again_at: None });
        object
    }

    /// It is back, and due again at this time, if at any.
    pub(super) fn back(&mut self, object: R, again_at: Option<Instant>) {
        let woken_at = match self.standing.remove(&object) {
            Some(Standing::Out { again_at }) => again_at,
            Some(Standing::Due { .. }) | None => None,
        };
        if let Some(at) = woken_at.into_iter().chain(again_at).min() {
            self.wake(object, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;
    use tokio::time::timeout;

    use super::*;

    fn after(seconds: u64) -> Instant {
        Instant::now() + Duration::from_secs(seconds)
    }

    /// Who is handed out within so many seconds, and after how many.
    async fn handed_out(agenda: &mut Agenda<&'static str>, seconds: u64) -> Vec<(&'static str, u64)> {
        let (begun, end) = (Instant::now(), Duration::from_secs(seconds));
        let mut out = Vec::new();
        while let Ok(object) = timeout(end.saturating_sub(begun.elapsed()), agenda.next()).await {
            out.push((object, begun.elapsed().as_secs()));
        }
        out
    }

    #[tokio::test(start_paused = true)]
    async fn agenda_hands_out_each_once_and_at_the_earliest_time_that_was_named() {
        let mut agenda = Agenda::default();
        agenda.wake("late", after(9));
        agenda.wake("sooner", after(8));
        agenda.wake("sooner", after(2));
        agenda.wake("sooner", after(5));
        assert_eq!(handed_out(&mut agenda, 60).await, [("sooner", 2), ("late", 9)]);
    }

    #[tokio::test(start_paused = true)]
    async fn agenda_hands_out_nobody_twice_at_a_time_and_forgets_no_wake() {
        let mut agenda = Agenda::default();
        agenda.wake("web", after(0));
        assert_eq!(agenda.next().await, "web");
        agenda.wake("web", after(1));
        agenda.wake("web", after(3));
        assert_eq!(handed_out(&mut agenda, 60).await, [], "it is out");
        agenda.back("web", Some(after(600)));
        assert_eq!(agenda.next().now_or_never(), Some("web"), "it was woken long ago");
        agenda.back("web", Some(after(600)));
        assert_eq!(handed_out(&mut agenda, 900).await, [("web", 600)]);
        agenda.back("web", None);
        assert_eq!(handed_out(&mut agenda, 900).await, []);
        assert!(agenda.standing.is_empty(), "nothing is kept of who is not due");
    }
}
