//! The three processes of a control plane of our own: starting them in order, noticing that one died, restarting one.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use futures::future::{FutureExt as _, select_all};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use super::credentials::Credentials;
use super::ports::Ports;
use super::{commands, kubeconfig, requests};
use crate::supervisor::{Process, Program, Supervisor};
use crate::tools::Tools;

/// From the first process to the first `ServiceAccount`: 6 s on two idle cores, many times that beside a build.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// How often it is asked whether the plane is ready.
const READY_INTERVAL: Duration = Duration::from_millis(100);

/// How long a process may take to end when asked; open watches keep an API server up for long.
const STOP_GRACE: Duration = Duration::from_secs(3);

pub(super) struct Processes {
    etcd: Process,
    api_server: Mutex<Arc<Process>>,
    api_server_program: Program,
    /// Held while the API server is down on purpose.
    restart: tokio::sync::Mutex<()>,
    controller_manager: Process,
}

/// What the processes are started from.
pub(super) struct Plan<'a> {
    pub(super) supervisor: &'a Supervisor,
    pub(super) tools: &'a Tools,
    pub(super) ports: Ports,
    pub(super) credentials: &'a Credentials,
    pub(super) issuer: &'a str,
    /// The administrator.
    pub(super) client: &'a Client,
}

impl Processes {
    /// Starts everything and waits until the plane can be used.
    pub(super) async fn start(plan: Plan<'_>) -> anyhow::Result<Self> {
        let Plan {
            supervisor,
            tools,
            ports,
            credentials,
            issuer,
            client,
        } = plan;
        let directory = supervisor.directory();
        let etcd = supervisor.spawn("etcd", &commands::etcd(tools, directory, ports))?;
        let api_server_program = commands::api_server(tools, directory, ports, credentials, issuer);
        let api_server = supervisor.spawn("kube-apiserver", &api_server_program)?;
        until_ready(&[&etcd, &api_server], async || requests::is_ready(client).await).await?;
        // Only now: a controller manager that meets no API server gives up after 10 s.
        let controller_manager = spawn_controller_manager(supervisor, tools, ports, credentials, directory)?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        until_ready(&[&etcd, &api_server, &controller_manager], async || {
            matches!(accounts.get_opt("default").await, Ok(Some(_)))
        })
        .await?;
        Ok(Self {
            etcd,
            api_server: Mutex::new(Arc::new(api_server)),
            api_server_program,
            restart: tokio::sync::Mutex::new(()),
            controller_manager,
        })
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        vec![
            self.etcd.pid(),
            self.api_server().pid(),
            self.controller_manager.pid(),
        ]
    }

    /// Resolves when a process has ended that should not have.
    pub(super) async fn failed(&self) -> anyhow::Error {
        loop {
            let api_server = self.api_server();
            let processes: [&Process; 3] = [&self.etcd, &api_server, &self.controller_manager];
            let ended = select_all(processes.map(|process| process.exited().map(move |_| process).boxed()))
                .await
                .0;
            if ended.pid() != api_server.pid() {
                return ended.failure();
            }
            // Waits for a restart that may be under way; after it there is another API server.
            let _restart = self.restart.lock().await;
            if self.api_server().pid() == api_server.pid() {
                return api_server.failure();
            }
        }
    }

    /// Stops the API server and starts it again on the same port and the same data.
    pub(super) async fn restart_api_server(
        &self,
        supervisor: &Supervisor,
        client: &Client,
    ) -> anyhow::Result<()> {
        let _restart = self.restart.lock().await;
        self.api_server().terminate(STOP_GRACE).await;
        let started = Arc::new(supervisor.spawn("kube-apiserver", &self.api_server_program)?);
        *self.api_server.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&started);
        until_ready(&[&self.etcd, &started], async || requests::is_ready(client).await).await
    }

    /// Asks all to end, those first that use the others.
    pub(super) async fn stop(&self) {
        self.controller_manager.terminate(STOP_GRACE).await;
        self.api_server().terminate(STOP_GRACE).await;
        self.etcd.terminate(STOP_GRACE).await;
    }

    fn api_server(&self) -> Arc<Process> {
        Arc::clone(&self.api_server.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn spawn_controller_manager(
    supervisor: &Supervisor,
    tools: &Tools,
    ports: Ports,
    credentials: &Credentials,
    directory: &Path,
) -> anyhow::Result<Process> {
    let cluster = kubeconfig::cluster(&ports.api_server_url(), &credentials.ca_pem);
    let user = kubeconfig::token_user(&credentials.controller_manager_token);
    let path = directory.join("controller-manager.kubeconfig");
    kubeconfig::write(&path, &kubeconfig::kubeconfig(cluster, user))?;
    supervisor
        .spawn(
            "kube-controller-manager",
            &commands::controller_manager(tools, credentials, &path),
        )
        .context("failed to start the controller manager")
}

/// Waits until `is_ready`, and no longer than one of the processes it depends on lives.
async fn until_ready(processes: &[&Process], is_ready: impl AsyncFn() -> bool) -> anyhow::Result<()> {
    let ready = async {
        while !is_ready().await {
            tokio::time::sleep(READY_INTERVAL).await;
        }
    };
    let ended = select_all(
        processes
            .iter()
            .map(|process| process.exited().map(move |_| *process).boxed()),
    );
    tokio::select! {
        () = ready => Ok(()),
        (process, ..) = ended => Err(process.failure()),
        () = tokio::time::sleep(READY_TIMEOUT) => {
            let logs: Vec<_> =
                processes.iter().map(|process| format!("{}:\n{}", process.name(), process.log_tail())).collect();
            bail!("the control plane was not ready within {READY_TIMEOUT:?}; last log lines of\n{}", logs.join("\n"))
        }
    }
}
