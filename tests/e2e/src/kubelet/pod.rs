//! A running Pod: its process, and its volumes kept current for as long as it lives.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use controlplane::{Process, Program, free_ports};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod as PodObject, ServiceAccount};
use kube::{Api, Client};
use rustix::process::Signal;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::template::{Places, Template, mounted};
use super::volumes::{Mounted, Owner};
use super::{Node, environment};
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
    node: Node,
    program: Program,
    places: Places,
    /// Container ports by name.
    ports: BTreeMap<String, u16>,
    readiness: Option<(String, u16)>,
    grace: Duration,
    log_path: PathBuf,
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
        let pod = Self::prepare(node, namespace, deployment)
            .await
            .with_context(|| format!("failed to prepare a Pod of Deployment {namespace}/{deployment}"))?;
        pod.start().await?;
        Ok(pod)
    }

    async fn prepare(node: &Node, namespace: &str, deployment: &str) -> anyhow::Result<Self> {
        let client = node.plane.client()?;
        let name = format!("{deployment}-0");
        let template = Template::read(pod_object(&client, namespace, deployment, &name).await?)?;
        let directory = node.plane.directory().join("pods").join(namespace).join(&name);
        let owner =
            Owner { node, client: &client, namespace, service_account: template.service_account.as_str() };
        let mut volumes = Vec::new();
        for volume in template.volumes.clone() {
            volumes.push(Mounted::create(volume, &directory)?);
        }
        let mut places = Places::default();
        for mount in &template.mounts {
            let volume = volumes.iter().find(|volume| volume.name == mount.name);
            let volume = volume.with_context(|| format!("mount {} refers to no volume", mount.name))?;
            places.mounts.push((mount.mount_path.clone(), mounted(mount, volume.path())?));
        }
        for port in template.listening_ports()? {
            let [local] = free_ports()?;
            places.ports.insert(port, local);
        }
        let mut program = Program::new(node.binaries.path(&template.command)?).clear_env();
        for argument in &template.arguments {
            program = program.arg(places.argument(argument)?);
        }
        let object = serde_json::to_value(&template.pod)?;
        for (name, value) in
            environment::resolve(&client, namespace, &template.environment, &object, &places).await?
        {
            program = program.env(name, value);
        }
        if wants_token(&owner, template.automount_token).await? {
            let volume = Mounted::api_server_token(&directory)?;
            program =
                program.env("KUBECONFIG", node.plane.kubeconfig_for_token_file(&volume.path().join("token"))?);
            volumes.push(volume);
        }
        for volume in &mut volumes {
            volume.sync(&owner).await?;
        }
        let service_account = template.service_account.clone();
        Ok(Self {
            log_path: node.plane.logs_dir().join(format!("{name}.log")),
            _volume_sync: keep_current(node.clone(), client, namespace.to_owned(), service_account, volumes),
            name,
            node: node.clone(),
            program,
            places,
            ports: template.ports,
            readiness: template.readiness,
            grace: template.grace,
            process: watch::Sender::new(None),
        })
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
        let port = self.ports.get(port_name).with_context(|| format!("{} has no port {port_name}", self.name))?;
        self.local(*port)
    }

    /// Where a file of the container is.
    ///
    /// # Errors
    /// It is below no mount path.
    pub fn file(&self, path: &str) -> anyhow::Result<PathBuf> {
        self.places.file(path).with_context(|| format!("{path} is in no volume of {}", self.name))
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
        std::fs::read_to_string(&self.log_path).with_context(|| format!("failed to read the log of {}", self.name))
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
        let Some((path, port)) = &self.readiness else { return Ok(()) };
        let url = format!("http://{}{path}", self.local(*port)?);
        let probe = reqwest::Client::builder().timeout(PROBE_TIMEOUT).no_proxy().build()?;
        let process = self.process.borrow().clone().with_context(|| format!("{} was stopped", self.name))?;
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
            Ok(Err(format!("{}: {}", answer.status(), answer.text().await.unwrap_or_default())))
        });
        waited.await.with_context(|| format!("its last log lines:\n{}", process.log_tail()))
    }

    fn local(&self, port: u16) -> anyhow::Result<SocketAddr> {
        let local = self.places.ports.get(&port);
        let local = local.with_context(|| format!("no argument of {} listens on port {port}", self.name))?;
        Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, *local)))
    }
}

/// The Pod that the Deployment's controller would create.
async fn pod_object(
    client: &Client,
    namespace: &str,
    deployment: &str,
    name: &str,
) -> anyhow::Result<PodObject> {
    let deployment = Api::<Deployment>::namespaced(client.clone(), namespace).get(deployment).await?;
    let template = deployment.spec.context("the Deployment has no spec")?.template;
    let mut metadata = template.metadata.unwrap_or_default();
    metadata.name = Some(name.to_owned());
    metadata.namespace = Some(namespace.to_owned());
    Ok(PodObject { metadata, spec: template.spec, ..PodObject::default() })
}

/// Whether the container gets a token for the API server: the Pod decides, else its `ServiceAccount`, else yes.
async fn wants_token(owner: &Owner<'_>, of_pod: Option<bool>) -> anyhow::Result<bool> {
    let api = Api::<ServiceAccount>::namespaced(owner.client.clone(), owner.namespace);
    let account = api.get(owner.service_account).await.context("the Pod's ServiceAccount")?;
    Ok(of_pod.or(account.automount_service_account_token).unwrap_or(true))
}

fn keep_current(
    node: Node,
    client: Client,
    namespace: String,
    service_account: String,
    mut volumes: Vec<Mounted>,
) -> JoinSet<()> {
    let mut task = JoinSet::new();
    task.spawn(async move {
        let owner =
            Owner { node: &node, client: &client, namespace: &namespace, service_account: &service_account };
        loop {
            tokio::time::sleep(SYNC_INTERVAL).await;
            for volume in &mut volumes {
                // The old content stays, as with a kubelet, and the next round tries again.
                drop(volume.sync(&owner).await);
            }
        }
    });
    task
}
