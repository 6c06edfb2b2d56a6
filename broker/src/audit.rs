//! The audit log: one record for each call that the gate authenticates, or refuses to (guarantee O1). Says who asked for
//! what, by what right, and what came of it; never a secret, and of a stranger's token nothing at all.
//!
//! A record passes these files in this order: [`facts`] (collected while the call runs) -> `strangers` (not for each of a
//! flood) -> `log` -> `decision` (one line) -> `queue` (bounded) -> `writer` (a thread of its own) -> `sink`.
//! `fingerprint` stands for tokens, `event` is about the log itself, `trouble` about what is missing from it.
//!
//! It decides nothing about calls, but for one thing: with `onBlocked: refuse`, what is not recorded is not answered.

pub mod command;
mod decision;
mod event;
pub mod facts;
mod fingerprint;
mod foreign;
mod log;
mod queue;
mod settings;
mod sink;
mod strangers;
mod text;
mod trouble;
mod writer;

use std::{future::pending, io, sync::Arc, time::Duration};

use proto::Reason;
use runtime::{Clock, Failure, Shutdown};
use tokio::{sync::oneshot, time::sleep};

use crate::{
    access::Call,
    authn::Caller,
    config::{AuditConfig, AuditSink},
    metrics::{AuditMetrics, Outcome, WireFormat},
};
use facts::Facts;
pub use fingerprint::{FingerprintKey, KeyTooShort};
use log::Log;
use settings::Settings;
use sink::{Appended, Sink, Stdout};
use strangers::Ration;
use trouble::Trouble;
use writer::Writer;

/// Refusals without a record of their own are summed up this often.
const SUMMARY_PERIOD: Duration = Duration::from_secs(10);
/// For the last records, once every call has ended. What a sink does not take by then is lost.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Where records go in; nowhere, if the configuration says so. Cheap to clone.
#[derive(Clone)]
pub struct Audit(Arc<Parts>);

struct Parts {
    log: Option<Arc<Log>>,
    clock: Arc<dyn Clock>,
    /// Of refusals with a record of their own. Without a log they are still logged, and that is limited no less.
    refusals: Ration,
    /// Of warnings about what is only reported.
    reports: Ration,
}

/// The end of the thread that writes.
pub struct WriterEnd(Option<oneshot::Receiver<()>>);

/// A call that has begun. Its record is made by the settings of that moment, whatever they become meanwhile.
pub(crate) struct Begun {
    number: u64,
    settings: Option<Arc<Settings>>,
}

/// A call that has ended, as the record needs it beside its [`Facts`].
pub(crate) struct EndedCall {
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
                Ok((
                    Self::of(None, config.strangers_per_second, clock),
                    WriterEnd(None),
                ))
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
        let strangers_per_second = config.strangers_per_second;
        let settings = Settings::new(config, None)
            .map_err(|error| Failure::runtime("cannot make a key for the audit log").source(error))?;
        let trouble = Arc::new(Trouble::new(metrics, Arc::clone(&clock)));
        let (queue, items) = queue::queue();
        let ended = Writer::start(items, sink, Arc::clone(&trouble))
            .map_err(|error| Failure::runtime("cannot start the audit log's thread").source(error))?;
        let log = Log::begin(queue, place, settings, trouble, Arc::clone(&clock));
        let audit = Self::of(Some(Arc::new(log)), strangers_per_second, clock);
        Ok((audit, WriterEnd(Some(ended))))
    }

    fn of(log: Option<Arc<Log>>, strangers_per_second: u32, clock: Arc<dyn Clock>) -> Self {
        Self(Arc::new(Parts {
            log,
            clock,
            refusals: Ration::new(strangers_per_second),
            reports: Ration::new(strangers_per_second),
        }))
    }

    /// Takes a changed section into use. Another sink waits for the next start.
    pub fn adopt(&self, config: AuditConfig) {
        self.0.refusals.adopt(config.strangers_per_second);
        self.0.reports.adopt(config.strangers_per_second);
        match &self.0.log {
            Some(log) => log.adopt(config),
            None if config.sink == AuditSink::Off => {}
            None => tracing::warn!("audit.sink has changed and takes effect with the next start"),
        }
    }

    /// Sums up refusals that have no record of their own, until shutdown.
    pub async fn follow(self, shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.started() => return,
                () = sleep(SUMMARY_PERIOD) => {}
            }
            self.sum_up().await;
        }
    }

    async fn sum_up(&self) {
        let suppressed = self.0.refusals.take_suppressed(self.0.clock.monotonic());
        if let Some(log) = &self.0.log {
            log.sum_up(&suppressed).await;
        }
    }

    /// Writes what there is to be written. For the end of the process, when no call is left.
    pub async fn close(&self) {
        let suppressed = self.0.refusals.take_suppressed(self.0.clock.monotonic());
        if let Some(log) = &self.0.log {
            log.close(&suppressed, LAST_WORDS).await;
        }
    }

    /// A call begins.
    pub(crate) fn begin_call(&self) -> Begun {
        let nowhere = || Begun {
            number: 0,
            settings: None,
        };
        self.0.log.as_ref().map_or_else(nowhere, |log| log.begin_call())
    }

    /// Whether a refusal before anything was asked is one of those few that are recorded and logged; if not, it is summed
    /// up. By `caller`, where it is known.
    pub(crate) fn may_be_recorded(&self, caller: Option<&Caller>, reason: Reason) -> bool {
        let Parts {
            log, clock, refusals, ..
        } = &*self.0;
        let cluster = caller.map(|caller| Arc::clone(&caller.cluster.config.name));
        let subject = caller.map(|caller| &caller.subject);
        let may = refusals.may_be_recorded(clock.monotonic(), cluster, subject, reason);
        if let (false, Some(log)) = (may, log) {
            log.suppressed();
        }
        may
    }

    /// Whether one more thing that is only reported of this cluster may be warned of now.
    pub(crate) fn may_be_warned_of(&self, cluster: &Arc<str>) -> bool {
        let now = self.0.clock.monotonic();
        self.0.reports.take(now, Some(Arc::clone(cluster)))
    }

    /// The record of a call. None if the log is off.
    pub(crate) fn line(&self, begun: &Begun, ended: &EndedCall, facts: &Facts) -> Option<Line> {
        self.0.log.as_ref()?.line(begun, ended, facts)
    }

    /// Records a call that nobody waits for any more.
    pub(crate) fn put_now(&self, line: Line) {
        if let Some(log) = &self.0.log {
            log.put_now(line);
        }
    }

    /// Records a call that hands out nothing; a blocked log delays it a little and stops it never.
    ///
    /// # Cancel safety
    /// Cancel safe: the record is where it was until this returns, and then it is not any more.
    pub(crate) async fn put(&self, line: &mut Line) {
        if let Some(log) = &self.0.log {
            log.put(line).await;
        }
    }

    /// Records a call that is about to be answered.
    ///
    /// # Errors
    /// The log is blocked, and the configuration says that then nothing is answered.
    pub(crate) async fn put_before_answer(&self, line: Line) -> Result<(), Unrecorded> {
        match &self.0.log {
            Some(log) => log.put_before_answer(line).await,
            None => Ok(()),
        }
    }
}

impl Begun {
    /// What stands for `secret` in its record, if it has one.
    pub(crate) fn fingerprint(&self, secret: &str) -> Option<String> {
        let settings = self.settings.as_ref()?;
        Some(settings.key.fingerprint(secret))
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
