//! The audit log: one record for each call that the gate authenticates, or refuses to (guarantee O1). Says who asked for
//! what, by what right, and what came of it; never a secret, and of a stranger's token nothing at all.
//!
//! A record passes these files in this order: [`facts`] (collected while the call runs) -> `log` -> `strangers` (not for
//! each of a flood) -> `decision` (one line) -> `queue` (bounded) -> `writer` (a thread of its own) -> `sink`.
//! `fingerprint` stands for tokens, `event` is about the log itself, `trouble` about what is missing from it.
//!
//! It decides nothing about calls, but for one thing: with `onBlocked: refuse`, what is not recorded is not answered.

pub mod command;
mod decision;
mod event;
pub mod facts;
mod fingerprint;
mod log;
mod queue;
mod settings;
mod sink;
mod strangers;
mod text;
mod trouble;
mod writer;

use std::{future::pending, io, sync::Arc, time::Duration};

use runtime::{Clock, Failure, Shutdown};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    access::Call,
    config::{AuditConfig, AuditSink},
    metrics::{AuditMetrics, Outcome, WireFormat},
};
use facts::Facts;
pub use fingerprint::{FingerprintKey, KeyTooShort};
use log::Log;
use settings::Settings;
use sink::{Appended, Sink, Stdout};
use trouble::Trouble;
use writer::Writer;

/// Strangers without a record of their own are summed up this often.
const SUMMARY_PERIOD: Duration = Duration::from_secs(10);
/// For the last records, once every call has ended. What a sink does not take by then is lost.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where records go in; nowhere, if the configuration says so. Cheap to clone.
#[derive(Clone)]
pub struct Audit(Option<Arc<Log>>);

/// The end of the thread that writes.
pub struct WriterEnd(Option<oneshot::Receiver<()>>);

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
        let cannot_open = |what: String| {
            move |error: io::Error| {
                Failure::runtime(format!("cannot open the audit log {what}")).source(error)
            }
        };
        match config.sink.clone() {
            AuditSink::Off => {
                tracing::warn!("the audit log is off");
                Ok((Self(None), WriterEnd(None)))
            }
            AuditSink::Stdout => {
                let sink = Stdout::open().map_err(cannot_open("on standard output".to_owned()))?;
                Self::over(sink, config, clock, metrics)
            }
            AuditSink::File(path) => {
                let what = path.display().to_string();
                let sink = Appended::open(path).map_err(cannot_open(what))?;
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
        let log = Log::begin(queue, place, settings, trouble, clock);
        Ok((Self(Some(Arc::new(log))), WriterEnd(Some(ended))))
    }

    /// Takes a changed section into use. Another sink waits for the next start.
    pub fn adopt(&self, config: AuditConfig) {
        match &self.0 {
            Some(log) => log.adopt(config),
            None if config.sink == AuditSink::Off => {}
            None => tracing::warn!("audit.sink has changed and takes effect with the next start"),
        }
    }

    /// Sums up strangers until shutdown.
    pub async fn follow(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.started() => return,
                () = sleep(SUMMARY_PERIOD) => {}
            }
            if let Some(log) = &self.0 {
                log.sum_up().await;
            }
        }
    }

    /// Writes what there is to be written. For the end of the process, when no call is left.
    pub async fn close(&self) {
        if let Some(log) = &self.0 {
            log.close(LAST_WORDS).await;
        }
    }

    /// The number of a call that begins.
    pub(crate) fn next_call(&self) -> u64 {
        self.0.as_ref().map_or(0, |log| log.next_call())
    }

    /// What stands for `secret` in a record, if there are records.
    pub(crate) fn fingerprint(&self, secret: &str) -> Option<String> {
        self.0.as_ref().map(|log| log.fingerprint(secret))
    }

    /// The record of a call. None where none is wanted: the log is off, or the caller is one stranger of too many.
    pub(crate) fn line(&self, ended: &EndedCall, facts: &Facts) -> Option<Line> {
        self.0.as_ref()?.line(ended, facts)
    }

    /// Records a call that nobody waits for any more.
    pub(crate) fn put_now(&self, line: Line) {
        if let Some(log) = &self.0 {
            log.put_now(line);
        }
    }

    /// Records a call that hands out nothing; a blocked log delays it a little and stops it never.
    ///
    /// # Cancel safety
    /// Cancel safe: the record is in once this returns, and not before.
    pub(crate) async fn put(&self, line: Line) {
        if let Some(log) = &self.0 {
            log.put(line).await;
        }
    }

    /// Records a call that is about to be answered.
    ///
    /// # Errors
    /// The log is blocked, and the configuration says that then nothing is answered.
    pub(crate) async fn put_before_answer(&self, line: Line) -> Result<(), Unrecorded> {
        match &self.0 {
            Some(log) => log.put_before_answer(line).await,
            None => Ok(()),
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

#[cfg(test)]
pub(crate) mod test_log;
#[cfg(test)]
mod tests;
