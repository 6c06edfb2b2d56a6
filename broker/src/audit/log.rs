//! The log where there is one: by which settings records are made, and what becomes of those that find no room.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use runtime::Clock;

use super::{
    Begun, EndedCall, Line, Unrecorded,
    decision::{self, Ended},
    event,
    facts::Facts,
    queue::{Blocked, Queue},
    settings::Settings,
    strangers::Suppressed,
    trouble::Trouble,
};
use crate::config::{AuditConfig, AuditSink, OnBlocked};

pub(super) struct Log {
    queue: Queue,
    settings: ArcSwap<Settings>,
    trouble: Arc<Trouble>,
    clock: Arc<dyn Clock>,
    sink: AuditSink,
    /// Tells the calls of one process from those of another.
    instance: String,
    calls: AtomicU64,
}

impl Log {
    /// A log that begins, with the line that says so.
    pub(super) fn begin(
        queue: Queue,
        sink: AuditSink,
        settings: Settings,
        trouble: Arc<Trouble>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let instance = format!("{:016x}", rand::random::<u64>());
        tracing::info!(
            ?sink,
            on_blocked = ?settings.on_blocked,
            fingerprint_key = settings.key.id(),
            fingerprint_key_is_random = settings.is_random,
            "audit log"
        );
        let start = event::start(clock.now(), &instance, &settings.key, settings.is_random);
        let log = Self {
            queue,
            settings: ArcSwap::from_pointee(settings),
            trouble,
            clock,
            sink,
            instance,
            calls: AtomicU64::new(0),
        };
        log.put_now(Line(start));
        log
    }

    pub(super) fn adopt(&self, config: AuditConfig) {
        if config.sink != self.sink {
            tracing::warn!("audit.sink has changed and takes effect with the next start; the rest is in use");
        }
        let before = self.settings.load_full();
        match Settings::new(config, Some(&before)) {
            Ok(settings) => {
                if settings.key.id() != before.key.id() {
                    let (now, key) = (self.clock.now(), &settings.key);
                    self.put_now(Line(event::key(now, &self.instance, key, settings.is_random)));
                }
                self.settings.store(Arc::new(settings));
            }
            Err(error) => tracing::error!(%error, "no key for the audit log; it goes on as it was"),
        }
    }

    pub(super) fn begin_call(&self) -> Begun {
        Begun {
            number: self.calls.fetch_add(1, Ordering::Relaxed),
            settings: Some(self.settings.load_full()),
        }
    }

    /// One refusal of too many.
    pub(super) fn suppressed(&self) {
        self.trouble.suppressed();
    }

    /// None for a call that began without a log.
    pub(super) fn line(&self, begun: &Begun, ended: &EndedCall, facts: &Facts) -> Option<Line> {
        let settings = begun.settings.as_ref()?;
        let ended = Ended {
            id: format!("{}-{}", self.instance, begun.number),
            wire: ended.wire,
            call: ended.call,
            outcome: ended.outcome,
            at: self.clock.now(),
            took: ended.took,
            caller_token: facts
                .bearer
                .as_ref()
                .map(|bearer| settings.key.fingerprint(bearer.expose())),
            fingerprint_key: settings.key.id(),
        };
        Some(Line(decision::line(&ended, facts)))
    }

    pub(super) async fn sum_up(&self, suppressed: &Suppressed) {
        if !suppressed.is_empty() {
            let mut line = Line(event::strangers(self.clock.now(), suppressed));
            self.put(&mut line).await;
        }
    }

    pub(super) fn put_now(&self, line: Line) {
        self.note(self.queue.put_now(line.0));
    }

    pub(super) async fn put(&self, line: &mut Line) {
        let put = self.queue.put(&mut line.0).await;
        self.note(put);
    }

    pub(super) async fn put_before_answer(&self, mut line: Line) -> Result<(), Unrecorded> {
        let on_blocked = self.settings.load().on_blocked;
        match on_blocked {
            OnBlocked::Continue => self.put(&mut line).await,
            OnBlocked::Refuse => {
                self.queue.put_and_confirm(line.0).await.map_err(|Blocked| {
                    self.trouble.unconfirmed();
                    Unrecorded
                })?;
                self.tell_of_gap();
            }
        }
        Ok(())
    }

    /// Waits until all that is in by now has been written, however long that takes.
    pub(super) async fn written(&self) -> Result<(), Blocked> {
        self.queue.written().await
    }

    /// Writes the last words, if the sink takes them within `patience`.
    pub(super) async fn close(&self, suppressed: &Suppressed, patience: Duration) {
        let last_words = async {
            self.sum_up(suppressed).await;
            self.written().await
        };
        if tokio::time::timeout(patience, last_words).await != Ok(Ok(())) {
            tracing::error!("the audit log is blocked: its last records are lost");
        }
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
