//! A watch that goes on whatever the API server does: pauses after failures, and begins anew where it could only fail
//! again. Decides nothing about objects.
//!
//! A server that throttles and names a time is left alone for as long, within bounds. Else the pauses grow until something
//! has really come. A list begins with an event of its own before the first answer, so
//! that "any event" as the measure, which the library takes, would repeat a failing list every second for ever.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _, stream};
use kube::{
    core::Status,
    runtime::watcher::{self, Event},
};

use crate::kube_client;

/// The first pause; each is twice the one before,
const FIRST: Duration = Duration::from_secs(1);
/// up to this. It is also how long an API that was just installed may go unnoticed, and how long a server that is back;
/// unless the server named a time, of which a minute is believed: with the jitter on it that makes 90 s.
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
            tokio::time::sleep(pause).await;
        }
        let event = events.next().await?;
        patience.note(&event, rand::random());
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
    /// `draw` is a number in [0, 1).
    fn note<K>(&mut self, event: &watcher::Result<Event<K>>, draw: f64) {
        match event {
            Err(failure) => {
                self.is_refused |= is_answered(failure, &[FORBIDDEN]);
                let own = FIRST.saturating_mul(1 << self.failures.min(8)).min(LONGEST);
                let told = answer(failure).and_then(kube_client::told).unwrap_or_default();
                let pause = own.mul_f64(0.5 + draw / 2.0).max(told.mul_f64(1.0 + draw / 2.0));
                self.due = Some(pause);
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

/// What the server said, be it instead of a list or a watch, or in one.
fn answer(error: &watcher::Error) -> Option<&Status> {
    let cause = match error {
        watcher::Error::WatchError(status) => return Some(status),
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::NoResourceVersion => return None,
    };
    if let kube::Error::Api(status) = cause {
        Some(status)
    } else {
        None
    }
}

/// Whether the request for a watch was answered with one of these.
fn is_answered(error: &watcher::Error, codes: &[u16]) -> bool {
    matches!(
        error,
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) if codes.contains(&status.code)
    )
}
