//! A watch that goes on whatever the API server does: pauses after failures, and begins anew where it could only fail
//! again. Decides nothing about objects.
//!
//! The pauses grow until something has really come. A list begins with an event of its own before the first answer, so
//! that "any event" as the measure, which the library takes, would repeat a failing list every second for ever.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use kube::runtime::watcher::{self, Event};

/// The first pause; each is twice the one before,
const FIRST: Duration = Duration::from_secs(1);
/// up to this. It is also how long an API that was just installed may go unnoticed, and how long a server that is back.
const LONGEST: Duration = Duration::from_secs(10);
/// A version that the server has forgotten.
const GONE: u16 = 410;
/// The right to read was taken away: what was known by then may have been let go before it is given back.
const FORBIDDEN: u16 = 403;

type Events<K> = Pin<Box<dyn Stream<Item = watcher::Result<Event<K>>> + Send>>;

/// What `begin` starts, for ever.
pub(super) fn persistent<K, S>(
    mut begin: impl FnMut() -> S + Send,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Send,
    S: Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
{
    let events: Events<K> = Box::pin(begin());
    let watch = (events, Patience::default(), begin);
    stream::unfold(watch, |(mut events, mut patience, mut begin)| async move {
        if let Some(pause) = patience.due.take() {
            tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        }
        let event = events.next().await?;
        patience.note(&event);
        // Told in the answer to the request and not within the stream; the library would ask for that version again.
        if event
            .as_ref()
            .is_err_and(|error| is_answered(error, &[GONE, FORBIDDEN]))
        {
            events = Box::pin(begin());
        }
        Some((event, (events, patience, begin)))
    })
}

/// How long to wait before the next try.
#[derive(Default)]
struct Patience {
    failures: u32,
    /// A watch was refused, and perhaps the list is not: that one comes is no sign that the next watch may begin.
    is_refused: bool,
    due: Option<Duration>,
}

impl Patience {
    fn note<K>(&mut self, event: &watcher::Result<Event<K>>) {
        match event {
            Err(failure) => {
                self.is_refused |= is_answered(failure, &[FORBIDDEN]);
                self.due = Some(FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST));
                self.failures = self.failures.saturating_add(1);
            }
            Ok(Event::Apply(_) | Event::Delete(_)) => {
                self.failures = 0;
                self.is_refused = false;
            }
            Ok(Event::InitDone) if !self.is_refused => self.failures = 0,
            // A try begins, or a page of it has come: it may still fail, and from the start.
            Ok(Event::Init | Event::InitApply(_) | Event::InitDone) => {}
        }
    }
}

/// Whether the request for a watch was answered with one of these.
fn is_answered(error: &watcher::Error, codes: &[u16]) -> bool {
    matches!(
        error,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) if codes.contains(&status.code)
    )
}
