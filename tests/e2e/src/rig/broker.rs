//! One real broker process, with everything that a test does to it: stopped gently, killed, halted, started again at the
//! same addresses.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use controlplane::{Process, Program, Supervisor};
use rustix::process::Signal;

use crate::wait;

/// How long it may take until it is ready. All cores may be busy with other tests.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a probe may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// What a Pod gets to end: more than the longest request.
const GRACE: Duration = Duration::from_secs(45);

/// A broker. Dropping it kills its process.
pub struct Broker {
    name: String,
    program: Program,
    listen: SocketAddr,
    admin: SocketAddr,
    supervisor: Arc<Supervisor>,
    log_path: PathBuf,
    process: Mutex<Option<Arc<Process>>>,
}

impl Broker {
    pub(super) fn new(
        supervisor: Arc<Supervisor>,
        name: &str,
        program: Program,
        (listen, admin): (SocketAddr, SocketAddr),
    ) -> Self {
        Self {
            log_path: supervisor.logs_dir().join(format!("{name}.log")),
            name: name.to_owned(),
            program,
            listen,
            admin,
            supervisor,
            process: Mutex::default(),
        }
    }

    /// Its main listener.
    pub fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Starts the process, unless it runs, and waits until it is ready.
    ///
    /// # Errors
    /// It ends or does not become ready in time (with its last log lines).
    pub async fn start(&self) -> anyhow::Result<()> {
        let process = self.process_or_start()?;
        let url = format!("http://{}/readyz", self.admin);
        let probe = probe()?;
        let what = format!("{} is ready", self.name);
        let waited = wait::wait_for(&what, READY_TIMEOUT, async || {
            if process.exit_status().is_some() {
                return Err(process.failure());
            }
            let answer = probe.get(&url).send().await;
            Ok(answer.is_ok_and(|answer| answer.status().is_success()))
        });
        waited
            .await
            .with_context(|| format!("its last log lines:\n{}", process.log_tail()))
    }

    /// Ends the process as a kubelet does, and requires that it goes by itself and with success.
    ///
    /// # Errors
    /// It does not end, or not well.
    pub async fn stop(&self) -> anyhow::Result<()> {
        let Some(process) = self.taken() else {
            return Ok(());
        };
        let status = process.terminate(GRACE).await;
        ensure!(
            status.is_some_and(|status| status.success()),
            "{} ended with {status:?}; its last log lines:\n{}",
            self.name,
            process.log_tail()
        );
        Ok(())
    }

    /// Kills the process and waits until it is gone.
    pub async fn kill(&self) {
        if let Some(process) = self.taken() {
            process.kill();
            process.exited().await;
        }
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = self.lock().as_ref() {
            process.signal(signal);
        }
    }

    /// What it has counted since it started: the sum of all samples of a metric that have these labels.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn counted(&self, metric: &str, labels: &[(&str, &str)]) -> anyhow::Result<u64> {
        let text = self.metrics().await?;
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{value}\""))
            .collect();
        let samples = text
            .lines()
            .filter_map(|line| line.strip_prefix(metric)?.strip_prefix('{'));
        let wanted = samples.filter(|sample| labels.iter().all(|label| sample.contains(label)));
        Ok(wanted
            .filter_map(|sample| sample.rsplit_once(' ')?.1.parse::<u64>().ok())
            .sum())
    }

    /// All its metrics, as a scraper gets them.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/metrics", self.admin);
        let answer = probe()?.get(&url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// Everything that it logged, over all its starts.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn logs(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log_path)
            .with_context(|| format!("failed to read the log of {}", self.name))
    }

    fn process_or_start(&self) -> anyhow::Result<Arc<Process>> {
        let mut process = self.lock();
        if let Some(running) = process.as_ref() {
            return Ok(Arc::clone(running));
        }
        let started = Arc::new(self.supervisor.spawn(&self.name, &self.program)?);
        *process = Some(Arc::clone(&started));
        Ok(started)
    }

    fn taken(&self) -> Option<Arc<Process>> {
        self.lock().take()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Arc<Process>>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A client that goes nowhere but where it is told to, whatever the environment says about proxies.
fn probe() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(PROBE_TIMEOUT)
        .no_proxy()
        .build()
}
