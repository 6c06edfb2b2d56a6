//! A running Pod: its process, and its volumes kept current for as long as it lives.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use controlplane::{Process, Program};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::prepared::Prepared;
use super::template::Places;
use super::volumes::{Mounted, Owner};
use super::{Machine, Node};
use crate::wait;

/// How often volumes are brought up to date.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

/// How long a process may take until its readiness probe succeeds.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How long a probe may take; Kubernetes' own default.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// A Pod. Dropping it kills its process.
pub struct Pod {
    name: String,
    /// Of the Deployment.
    namespace: String,
    deployment: String,
    node: Node,
    program: Program,
    places: Places,
    /// Container ports by name.
    ports: BTreeMap<String, u16>,
    readiness: Option<(String, u16)>,
    grace: Duration,
    log_path: PathBuf,
    /// Folders of the container's own.
    scratch: Vec<PathBuf>,
    /// None while it is meant to be stopped.
    process: watch::Sender<Option<Arc<Process>>>,
    _volume_sync: JoinSet<()>,
}

impl Pod {
    /// Runs the one Pod that stands for all replicas of a Deployment, and waits until it is ready.
    ///
    /// # Errors
    /// The template asks for what is not supported here, something it refers to does not exist, or the process ends or
    /// does not become ready in time (with its last log lines).
    pub async fn run(node: &Node, namespace: &str, deployment: &str) -> anyhow::Result<Self> {
        Self::run_as(node, namespace, deployment, &format!("{deployment}-0"), &[]).await
    }

    /// Runs one more Pod of the same Deployment beside this one, under another name, with ports and volumes of its own.
    /// Each of `arguments` (`--flag=value`) takes the place of the template's argument with that flag.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn another(&self, name: &str, arguments: &[String]) -> anyhow::Result<Self> {
        Self::run_as(&self.node, &self.namespace, &self.deployment, name, arguments).await
    }

    /// The same on another machine.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn elsewhere(
        &self,
        machine: Machine,
        name: &str,
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let node = Node {
            machine,
            ..self.node.clone()
        };
        Self::run_as(&node, &self.namespace, &self.deployment, name, arguments).await
    }

    /// Runs one more Pod of the same Deployment, its `number`th replica, beside this one.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn replica(&self, number: u8) -> anyhow::Result<Self> {
        self.another(&format!("{}-{number}", self.deployment), &[]).await
    }

    async fn run_as(
        node: &Node,
        namespace: &str,
        deployment: &str,
        name: &str,
        arguments: &[String],
    ) -> anyhow::Result<Self> {
        let prepared = Prepared::of(node, namespace, deployment, name, arguments)
            .await
            .with_context(|| format!("failed to prepare a Pod of Deployment {namespace}/{deployment}"))?;
        let Prepared {
            program,
            places,
            ports,
            readiness,
            grace,
            volumes,
            service_account,
        } = prepared;
        let scratch = volumes.iter().filter(|volume| volume.is_of_container());
        let scratch = scratch.map(|volume| volume.path().to_owned()).collect();
        let volume_sync = keep_current(node.clone(), namespace.to_owned(), service_account, volumes)?;
        let pod = Self {
            log_path: node.plane.logs_dir().join(format!("{name}.log")),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            deployment: deployment.to_owned(),
            node: node.clone(),
            program,
            places,
            ports,
            readiness,
            grace,
            scratch,
            process: watch::Sender::new(None),
            _volume_sync: volume_sync,
        };
        pod.start().await?;
        Ok(pod)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where a container port is, by its name.
    ///
    /// # Errors
    /// The container has no such port, or does not listen on it.
    pub fn address(&self, port_name: &str) -> anyhow::Result<SocketAddr> {
        let port = self
            .ports
            .get(port_name)
            .with_context(|| format!("{} has no port {port_name}", self.name))?;
        self.local(*port)
    }

    /// Where a file of the container is.
    ///
    /// # Errors
    /// It is below no mount path.
    pub fn file(&self, path: &str) -> anyhow::Result<PathBuf> {
        self.places
            .file(path)
            .with_context(|| format!("{path} is in no volume of {}", self.name))
    }

    /// Its process id; none while it is stopped.
    pub fn pid(&self) -> Option<u32> {
        self.process.borrow().as_ref().map(|process| process.pid())
    }

    /// The file with everything that it logged, over all restarts.
    pub fn log_path(&self) -> &Path {
        &self.log_path
    }

    /// Everything that it logged.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn logs(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.log_path)
            .with_context(|| format!("failed to read the log of {}", self.name))
    }

    /// The files that it has written where its container may write: its `emptyDir` volumes.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub fn written_files(&self) -> anyhow::Result<Vec<PathBuf>> {
        let (mut folders, mut files) = (self.scratch.clone(), Vec::new());
        while let Some(folder) = folders.pop() {
            let entries =
                std::fs::read_dir(&folder).with_context(|| format!("failed to read {}", folder.display()))?;
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    files.push(path);
                }
            }
        }
        Ok(files)
    }

    /// What it counts: `/metrics` of its port `admin`.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/metrics", self.address("admin")?);
        let answer = http_client()?.get(&url).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    /// Starts the process, unless it runs, and waits until it is ready.
    ///
    /// # Errors
    /// It ends or does not become ready in time (with its last log lines).
    pub async fn start(&self) -> anyhow::Result<()> {
        if self.process.borrow().is_none() {
            let process = self.node.plane.supervisor().spawn(&self.name, &self.program)?;
            self.process.send_replace(Some(Arc::new(process)));
        }
        self.ready().await
    }

    /// Ends the process as a kubelet does: SIGTERM, and SIGKILL after the grace period.
    pub async fn stop(&self) {
        let process = self.process.send_replace(None);
        if let Some(process) = process {
            process.terminate(self.grace).await;
        }
    }

    /// Stops and starts it: same files, same ports, nothing remembered.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.stop().await;
        self.start().await
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        if let Some(process) = self.process.borrow().as_ref() {
            process.signal(signal);
        }
    }

    /// Resolves when the process ends without having been stopped.
    pub async fn failed(&self) -> anyhow::Error {
        let mut process = self.process.subscribe();
        loop {
            let current = process.borrow_and_update().clone();
            let Some(current) = current else {
                if process.changed().await.is_err() {
                    return anyhow!("{} is gone", self.name);
                }
                continue;
            };
            tokio::select! {
                _ = current.exited() => {
                    // Stopped on purpose: the watch says so before the process ends.
                    if !process.has_changed().unwrap_or(true) {
                        return current.failure();
                    }
                }
                _ = process.changed() => {}
            }
        }
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let Some((path, port)) = &self.readiness else {
            return Ok(());
        };
        let url = format!("http://{}{path}", self.local(*port)?);
        let probe = http_client()?;
        let process = self
            .process
            .borrow()
            .clone()
            .with_context(|| format!("{} was stopped", self.name))?;
        let what = format!("{} is ready", self.name);
        let waited = wait::poll(&what, READY_TIMEOUT, async || {
            if process.exit_status().is_some() {
                return Err(process.failure());
            }
            let answer = match probe.get(&url).send().await {
                Ok(answer) => answer,
                Err(error) => return Ok(Err(error.to_string())),
            };
            if answer.status().is_success() {
                return Ok(Ok(()));
            }
            Ok(Err(format!(
                "{}: {}",
                answer.status(),
                answer.text().await.unwrap_or_default()
            )))
        });
        waited
            .await
            .with_context(|| format!("its last log lines:\n{}", process.log_tail()))
    }

    fn local(&self, port: u16) -> anyhow::Result<SocketAddr> {
        let local = self.places.ports.get(&port);
        let local = local.with_context(|| format!("no argument of {} listens on port {port}", self.name))?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, *local)))
    }
}

/// A client that goes nowhere but where it is told to, whatever the environment says about proxies.
fn http_client() -> reqwest::Result<reqwest::Client> {
    reqwest::Client::builder()
        .timeout(PROBE_TIMEOUT)
        .no_proxy()
        .build()
}

fn keep_current(
    node: Node,
    namespace: String,
    service_account: String,
    mut volumes: Vec<Mounted>,
) -> anyhow::Result<JoinSet<()>> {
    let client = node.plane.client()?;
    let mut task = JoinSet::new();
    task.spawn(async move {
        let owner = Owner {
            node: &node,
            client: &client,
            namespace: &namespace,
            service_account: &service_account,
        };
        loop {
            tokio::time::sleep(SYNC_INTERVAL).await;
            for volume in &mut volumes {
                // The old content stays, as with a kubelet, and the next round tries again.
                drop(volume.sync(&owner).await);
            }
        }
    });
    Ok(task)
}
