//! An audit log in memory, for the tests of whatever is recorded. Its sink can be held like a pipe that nobody reads.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    time::{Duration, UNIX_EPOCH},
};

use prometheus_client::registry::Registry;
use runtime::clock::ManualClock;
use serde_json::Value;

use super::*;

pub(crate) const NOW: u64 = 1_795_000_000;

/// What has been written. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct TestLog(Arc<Held>);

#[derive(Default)]
struct Held {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    bytes: Vec<u8>,
    is_held: bool,
}

/// A log as `config` says, written to memory. Its clock stands still.
pub(crate) fn audit(config: AuditConfig, registry: &mut Registry) -> (Audit, TestLog) {
    let log = TestLog::default();
    let clock = Arc::new(ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW)));
    let (audit, _end) = Audit::over(log.clone(), config, clock, AuditMetrics::register(registry)).unwrap();
    (audit, log)
}

impl TestLog {
    /// Blocks whoever writes.
    pub(crate) fn hold(&self) {
        self.0.state.lock().unwrap().is_held = true;
    }

    /// Lets what is blocked go on.
    pub(crate) fn release(&self) {
        self.0.state.lock().unwrap().is_held = false;
        self.0.changed.notify_all();
    }

    /// As text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.state.lock().unwrap().bytes.clone()).unwrap()
    }

    /// Line by line; each is JSON by itself.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.text()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }
}

impl TestLog {
    fn when_released(&self) -> MutexGuard<'_, State> {
        let state = self.0.state.lock().unwrap();
        self.0.changed.wait_while(state, |state| state.is_held).unwrap()
    }
}

impl Sink for TestLog {
    fn renew(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.when_released().bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Audit {
    /// Waits until all that has been recorded is written.
    pub(crate) async fn written(&self) {
        self.0.log.as_ref().unwrap().written().await.unwrap();
    }

    /// What [`Audit::follow`] does from time to time.
    pub(crate) async fn sum_up_now(&self) {
        self.sum_up().await;
    }
}
