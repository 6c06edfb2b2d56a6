//! The three processes of a control plane of our own: starting them in order, noticing that one died,
//! restarting one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::bail;
use futures::future::{FutureExt as _, select_all};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};

use super::credentials::Credentials;
use super::ports::Ports;
use super::restartable::Restartable;
use super::{commands, kubeconfig, requests};
use crate::supervisor::{Process, Supervisor};
use crate::tools::Tools;

/// From the first process to the first `ServiceAccount`: 6 s on two idle cores, many times that beside a build.
const READY_TIMEOUT: Duration = Duration::from_mins(2);

/// How often it is asked whether the plane is ready.
const READY_INTERVAL: Duration = Duration::from_millis(100);

/// How long a process may take to end when asked; open watches keep an API server up for long.
const STOP_GRACE: Duration = Duration::from_secs(3);

pub(super) struct Processes {
    etcd: Process,
    api_server: Restartable,
    controller_manager: Restartable,
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
        let program = commands::api_server(tools, directory, ports, credentials, issuer);
        let api_server = Restartable::start(supervisor, "kube-apiserver", program)?;
        until_ready(&[&etcd, &api_server.current()], async || {
            requests::is_ready(client).await
        })
        .await?;
        // Only now: a controller manager that meets no API server gives up after 10 s.
        let kubeconfig = write_controller_manager_kubeconfig(directory, ports, credentials)?;
        let program = commands::controller_manager(tools, credentials, &kubeconfig);
        let controller_manager = Restartable::start(supervisor, "kube-controller-manager", program)?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
        until_ready(
            &[&etcd, &api_server.current(), &controller_manager.current()],
            async || matches!(accounts.get_opt("default").await, Ok(Some(_))),
        )
        .await?;
        Ok(Self {
            etcd,
            api_server,
            controller_manager,
        })
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        vec![
            self.etcd.pid(),
            self.api_server.current().pid(),
            self.controller_manager.current().pid(),
        ]
    }

    /// Resolves when a process has ended that should not have.
    pub(super) async fn failed(&self) -> anyhow::Error {
        tokio::select! {
            _ = self.etcd.exited() => self.etcd.failure(),
            error = self.api_server.failed() => error,
            error = self.controller_manager.failed() => error,
        }
    }

    /// Restarts the API server on the same port and the same data, and waits until it is ready.
    pub(super) async fn restart_api_server(
        &self,
        supervisor: &Supervisor,
        client: &Client,
    ) -> anyhow::Result<()> {
        self.api_server.restart(supervisor, STOP_GRACE).await?;
        let processes = [&self.etcd, &*self.api_server.current()];
        until_ready(&processes, async || requests::is_ready(client).await).await
    }

    pub(super) async fn restart_controller_manager(&self, supervisor: &Supervisor) -> anyhow::Result<()> {
        self.controller_manager.restart(supervisor, STOP_GRACE).await
    }

    /// Asks all to end, those first that use the others.
    pub(super) async fn stop(&self) {
        self.controller_manager.current().terminate(STOP_GRACE).await;
        self.api_server.current().terminate(STOP_GRACE).await;
        self.etcd.terminate(STOP_GRACE).await;
    }
}

fn write_controller_manager_kubeconfig(
    directory: &Path,
    ports: Ports,
    credentials: &Credentials,
) -> anyhow::Result<PathBuf> {
    let cluster = kubeconfig::cluster(&ports.api_server_url(), &credentials.ca_pem);
    let user = kubeconfig::token_user(&credentials.controller_manager_token);
    let path = directory.join("controller-manager.kubeconfig");
    kubeconfig::write(&path, &kubeconfig::kubeconfig(cluster, user))
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
