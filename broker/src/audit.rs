//! The audit log: one record for each call that the gate authenticates, or refuses to (guarantee O1). Says who asked for
//! what, by what right, and what came of it; never a secret, and of a stranger's token nothing at all.
//!
//! A record passes these files in this order: [`facts`] (collected while the call runs) -> `decision` (one line) ->
//! `strangers` (not for each of a flood) -> `queue` (bounded) -> `writer` (a thread of its own) -> `sink`.
//! `fingerprint` stands for tokens, `event` is about the log itself, `trouble` about what is missing from it.
//!
//! It decides nothing about calls, but for one thing: with `onBlocked: refuse`, what is not recorded is not answered.

pub mod command;
mod decision;
mod event;
pub mod facts;
mod fingerprint;
mod queue;
mod sink;
mod strangers;
mod text;
mod trouble;
mod writer;

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::error::Unspecified;
use runtime::{Clock, Failure, Shutdown};
use tokio::{
    sync::oneshot,
    time::{sleep, timeout},
};

use crate::{
    access::Call,
    config::{AuditConfig, AuditSink, OnBlocked},
    metrics::{AuditMetrics, Outcome, WireFormat},
};
use decision::Ended;
use facts::Facts;
pub use fingerprint::{FingerprintKey, KeyTooShort};
use queue::{Blocked, Queue};
use sink::{Appended, Sink, Stdout};
use strangers::Strangers;
use trouble::Trouble;
use writer::Writer;

/// Strangers without a record of their own are summed up this often.
const SUMMARY_PERIOD: Duration = Duration::from_secs(10);
/// For the last records, once every call has ended. What a sink does not take by then is lost.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where records go in. Cheap to clone.
#[derive(Clone)]
pub struct Audit(Option<Arc<Log>>);

struct Log {
    queue: Queue,
    settings: ArcSwap<Settings>,
    strangers: Strangers,
    trouble: Arc<Trouble>,
    clock: Arc<dyn Clock>,
    sink: AuditSink,
    /// Tells the calls of one process from those of another.
    instance: String,
    calls: AtomicU64,
}

/// What may change while the process runs.
struct Settings {
    key: Arc<FingerprintKey>,
    is_random: bool,
    on_blocked: OnBlocked,
    strangers_per_second: u32,
}

/// A call that has ended, as the record needs it beside its [`Facts`].
pub(crate) struct EndedCall {
    pub(crate) number: u64,
    pub(crate) wire: WireFormat,
    pub(crate) call: Call,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

/// A record, ready to be written.
pub(crate) struct Line(Vec<u8>);

/// The end of the thread that writes.
pub struct WriterEnd(Option<oneshot::Receiver<()>>);

/// A record could not be written, so its call must not be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the record of the call could not be written in time")]
pub(crate) struct Unrecorded;

impl Audit {
    /// Opens the sink and starts the thread that writes.
    ///
    /// # Errors
    /// The sink cannot be opened, or the machine has no randomness or no thread left.
    pub fn start(
        config: AuditConfig,
        clock: Arc<dyn Clock>,
        metrics: AuditMetrics,
    ) -> Result<(Self, WriterEnd), Failure> {
        let cannot = |what: String| move |error: std::io::Error| Failure::runtime(what).source(error);
        match config.sink.clone() {
            AuditSink::Off => {
                tracing::warn!("the audit log is off");
                return Ok((Self(None), WriterEnd(None)));
            }
            AuditSink::Stdout => {
                let sink = Stdout::open()
                    .map_err(cannot("cannot write the audit log to standard output".to_owned()))?;
                Self::over(sink, config, clock, metrics)
            }
            AuditSink::File(path) => {
                let what = format!("cannot open the audit log {}", path.display());
                let sink = Appended::open(path).map_err(cannot(what))?;
                Self::over(sink, config, clock, metrics)
            }
        }
    }

    fn over(
        sink: impl Sink,
        config: AuditConfig,
        clock: Arc<dyn Clock>,
        metrics: AuditMetrics,
    ) -> Result<(Self, WriterEnd), Failure> {
        let place = config.sink.clone();
        let settings = Settings::new(config, None)
            .map_err(|error| Failure::runtime("cannot make a key for the audit log").source(error))?;
        let trouble = Arc::new(Trouble::new(metrics, Arc::clone(&clock)));
        let (queue, items) = queue::queue();
        let ended = Writer::start(items, sink, Arc::clone(&trouble))
            .map_err(|error| Failure::runtime("cannot start the audit log's thread").source(error))?;
        let log = Log {
            queue,
            strangers: Strangers::default(),
            trouble,
            sink: place,
            instance: format!("{:016x}", rand::random::<u64>()),
            calls: AtomicU64::new(0),
            clock,
            settings: ArcSwap::from_pointee(settings),
        };
        let settings = log.settings.load();
        tracing::info!(
            sink = ?log.sink,
            on_blocked = ?settings.on_blocked,
            fingerprint_key = settings.key.id(),
            fingerprint_key_is_random = settings.is_random,
            "audit log"
        );
        let start = event::start(log.clock.now(), &log.instance, &settings.key, settings.is_random);
        log.put_now(start);
        drop(settings);
        Ok((Self(Some(Arc::new(log))), WriterEnd(Some(ended))))
    }

    /// Takes a changed section into use. Another sink waits for the next start.
    pub fn adopt(&self, config: AuditConfig) {
        let Some(log) = &self.0 else {
            if config.sink != AuditSink::Off {
                tracing::warn!("audit.sink has changed and takes effect with the next start");
            }
            return;
        };
        if config.sink != log.sink {
            tracing::warn!("audit.sink has changed and takes effect with the next start; the rest is in use");
        }
        let before = log.settings.load_full();
        match Settings::new(config, Some(&before)) {
            Ok(settings) => {
                if settings.key.id() != before.key.id() {
                    let key = event::key(log.clock.now(), &log.instance, &settings.key, settings.is_random);
                    log.put_now(key);
                }
                log.settings.store(Arc::new(settings));
            }
            Err(error) => tracing::error!(%error, "no key for the audit log; it goes on as it was"),
        }
    }

    /// Sums up strangers until shutdown.
    pub async fn follow(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.started() => return,
                () = sleep(SUMMARY_PERIOD) => self.sum_up().await,
            }
        }
    }

    /// Writes what there is to be written. For the end of the process, when no call is left.
    pub async fn close(&self) {
        let Some(log) = &self.0 else {
            return;
        };
        let last_words = async {
            self.sum_up().await;
            log.queue.written().await
        };
        if timeout(LAST_WORDS, last_words).await != Ok(Ok(())) {
            tracing::error!("the audit log is blocked: its last records are lost");
        }
    }

    async fn sum_up(&self) {
        let Some(log) = &self.0 else {
            return;
        };
        let suppressed = log.strangers.take_suppressed();
        if !suppressed.is_empty() {
            self.put(Line(event::strangers(log.clock.now(), &suppressed)))
                .await;
        }
    }

    /// The number of a call that begins.
    pub(crate) fn next_call(&self) -> u64 {
        self.0
            .as_ref()
            .map_or(0, |log| log.calls.fetch_add(1, Ordering::Relaxed))
    }

    /// What stands for `secret` in a record, if there are records.
    pub(crate) fn fingerprint(&self, secret: &str) -> Option<String> {
        let log = self.0.as_ref()?;
        Some(log.settings.load().key.fingerprint(secret))
    }

    /// The record of a call. None where none is wanted: the log is off, or the caller is one stranger of too many.
    pub(crate) fn line(&self, ended: &EndedCall, facts: &Facts) -> Option<Line> {
        let log = self.0.as_ref()?;
        let settings = log.settings.load();
        if let (None, Outcome::Failed(reason)) = (&facts.caller, ended.outcome) {
            let per_second = settings.strangers_per_second;
            if !log
                .strangers
                .may_be_recorded(log.clock.monotonic(), per_second, reason)
            {
                log.trouble.suppressed();
                return None;
            }
        }
        let ended = Ended {
            id: format!("{}-{}", log.instance, ended.number),
            wire: ended.wire,
            call: ended.call,
            outcome: ended.outcome,
            at: log.clock.now(),
            took: ended.took,
            fingerprint_key: settings.key.id(),
        };
        Some(Line(decision::line(&ended, facts)))
    }

    /// Records a call that nobody waits for any more.
    pub(crate) fn put_now(&self, line: Line) {
        if let Some(log) = &self.0 {
            log.put_now(line.0);
        }
    }

    /// Records a call that hands out nothing; a blocked log delays it a little and stops it never.
    ///
    /// # Cancel safety
    /// Cancel safe: the record is in once this returns, and not before.
    pub(crate) async fn put(&self, line: Line) {
        let Some(log) = &self.0 else {
            return;
        };
        let put = log.queue.put(line.0).await;
        log.note(put);
    }

    /// Records a call that is about to be answered.
    ///
    /// # Errors
    /// The log is blocked, and the configuration says that then nothing is answered.
    pub(crate) async fn put_before_answer(&self, line: Line) -> Result<(), Unrecorded> {
        let Some(log) = &self.0 else {
            return Ok(());
        };
        let on_blocked = log.settings.load().on_blocked;
        match on_blocked {
            OnBlocked::Continue => {
                self.put(line).await;
                Ok(())
            }
            OnBlocked::Refuse => {
                log.queue.put_and_confirm(line.0).await.map_err(|Blocked| {
                    log.trouble.unconfirmed();
                    Unrecorded
                })?;
                log.tell_of_gap();
                Ok(())
            }
        }
    }
}

impl WriterEnd {
    /// Waits for the thread to end, which it never should.
    pub async fn wait(self) {
        match self.0 {
            // Nothing is ever sent: at the end of the thread the sender is dropped.
            Some(ended) => drop(ended.await),
            None => pending().await,
        }
    }
}

impl Log {
    fn put_now(&self, line: Vec<u8>) {
        self.note(self.queue.put_now(line));
    }

    fn note(&self, put: Result<(), Blocked>) {
        match put {
            Ok(()) => self.tell_of_gap(),
            Err(Blocked) => self.trouble.lost(),
        }
    }

    /// Says in the log how many records are missing. After one that is not: there is room again.
    fn tell_of_gap(&self) {
        let untold = self.trouble.take_untold();
        if untold > 0 && self.queue.put_now(event::lost(self.clock.now(), untold)).is_err() {
            self.trouble.still_untold(untold);
        }
    }
}

impl Settings {
    /// A random key stays as long as no other is configured.
    fn new(config: AuditConfig, before: Option<&Self>) -> Result<Self, Unspecified> {
        let AuditConfig {
            sink: _for_the_next_start,
            on_blocked,
            key,
            strangers_per_second,
        } = config;
        let (key, is_random) = match (key, before) {
            (Some(key), _) => (Arc::new(key), false),
            (None, Some(before)) if before.is_random => (Arc::clone(&before.key), true),
            (None, _) => (Arc::new(FingerprintKey::random()?), true),
        };
        Ok(Self {
            key,
            is_random,
            on_blocked,
            strangers_per_second,
        })
    }
}

#[cfg(test)]
pub(crate) mod test_log;
#[cfg(test)]
mod tests;
