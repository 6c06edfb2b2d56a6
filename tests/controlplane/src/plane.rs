//! A control plane to test against: started for the occasion, or an existing cluster.
//!
//! Here it is started, observed and stopped; `access` hands out clients, tokens and kubeconfigs, `history` makes it
//! forget. It installs nothing and knows nothing of the product.

mod access;
mod commands;
mod credentials;
mod existing;
mod history;
mod kubeconfig;
mod ports;
mod processes;
mod requests;
mod restartable;
mod shared;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use anyhow::{Context as _, bail};
use kube::Client;
use kube::config::{Cluster, Kubeconfig};

use crate::supervisor::Supervisor;
use crate::tools::Tools;
use credentials::Credentials;
use ports::Ports;
pub use ports::free_ports;
pub(crate) use ports::is_port_taken;
use processes::{Plan, Processes};

/// What most clusters call themselves in their `ServiceAccount` tokens; so do ours, so that it is what is
/// tested.
pub const DEFAULT_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// The range of Service addresses; nothing answers there.
const SERVICE_RANGE: &str = "10.0.0.0/24";

/// The address of the `kubernetes` Service in it.
const SERVICE_ADDRESS: &str = "10.0.0.1";

/// How often a start is tried, each time with other ports: another process may take one in between.
const START_ATTEMPTS: u32 = 3;

/// What can be chosen about a control plane of our own.
#[derive(Debug, Clone)]
pub struct ControlPlaneOptions {
    /// Shows in the names of its folder, of kept logs and of its CA.
    pub name: String,
    /// The `iss` of its `ServiceAccount` tokens; an https URL.
    pub issuer: String,
    /// Never the existing cluster that the environment selects: for tests that need a second cluster, an
    /// issuer of their own or a restart.
    pub always_own: bool,
}

/// A running Kubernetes API with its controllers.
pub struct ControlPlane {
    issuer: String,
    jwks: String,
    cluster: Cluster,
    api_server_url: String,
    admin: Kubeconfig,
    kubeconfig_path: PathBuf,
    ca_pem_path: PathBuf,
    files: AtomicU64,
    tools: Tools,
    own: Option<Own>,
    supervisor: Arc<Supervisor>,
}

/// What only a control plane of our own has.
struct Own {
    processes: Processes,
    signing_key_path: PathBuf,
    etcd_url: String,
}

impl Default for ControlPlaneOptions {
    fn default() -> Self {
        Self {
            name: "plane".to_owned(),
            issuer: DEFAULT_ISSUER.to_owned(),
            always_own: false,
        }
    }
}

impl ControlPlane {
    /// Starts a control plane, or connects to the existing cluster that the environment selects (see the
    /// README).
    ///
    /// # Errors
    /// A tool is missing and cannot be built, a process ends early (with its last log lines), or nothing is
    /// ready in time.
    pub async fn start(options: ControlPlaneOptions) -> anyhow::Result<Self> {
        let existing = if options.always_own {
            None
        } else {
            existing::selected()?
        };
        let tools = Tools::resolve().await?;
        if let Some(kubeconfig) = existing {
            return Self::connect(&options.name, tools, &kubeconfig).await;
        }
        let mut attempt = 1;
        loop {
            match Self::start_once(&options, &tools).await {
                Err(error) if attempt < START_ATTEMPTS && is_port_taken(&format!("{error:#}")) => {
                    attempt += 1;
                }
                result => return result.context("failed to start a control plane"),
            }
        }
    }

    async fn start_once(options: &ControlPlaneOptions, tools: &Tools) -> anyhow::Result<Self> {
        let supervisor = Supervisor::new(&options.name)?;
        let credentials = Credentials::write(supervisor.directory(), &options.name)?;
        let ports = Ports::free()?;
        let cluster = kubeconfig::cluster(&ports.api_server_url(), &credentials.ca_pem);
        let admin = kubeconfig::kubeconfig(cluster.clone(), kubeconfig::token_user(&credentials.admin_token));
        let client = Client::try_from(admin.clone()).context("failed to make a client")?;
        let plan = Plan {
            supervisor: &supervisor,
            tools,
            ports,
            credentials: &credentials,
            issuer: &options.issuer,
            client: &client,
        };
        let processes = Processes::start(plan).await.inspect_err(|error| {
            if !is_port_taken(&error.to_string()) {
                supervisor.keep_logs();
            }
        })?;
        let Credentials {
            ca_pem_path,
            signing_key_path,
            ..
        } = credentials;
        Ok(Self {
            issuer: options.issuer.clone(),
            jwks: requests::jwks(&client).await?,
            cluster,
            api_server_url: ports.api_server_url(),
            kubeconfig_path: kubeconfig::write(&supervisor.directory().join("admin.kubeconfig"), &admin)?,
            admin,
            ca_pem_path,
            files: AtomicU64::new(0),
            tools: tools.clone(),
            own: Some(Own {
                processes,
                signing_key_path,
                etcd_url: ports.etcd_url(),
            }),
            supervisor,
        })
    }

    async fn connect(name: &str, tools: Tools, kubeconfig: &Kubeconfig) -> anyhow::Result<Self> {
        let supervisor = Supervisor::new(name)?;
        let directory = supervisor.directory();
        let (cluster, user) = kubeconfig::current(kubeconfig)?;
        let ca_pem_path =
            credentials::write_private(&directory.join("ca.pem"), &kubeconfig::ca_pem(&cluster)?)?;
        // Only the current context: what follows must not depend on a change of it.
        let admin = kubeconfig::kubeconfig(cluster.clone(), user);
        let client = Client::try_from(admin.clone()).context("failed to make a client")?;
        Ok(Self {
            issuer: requests::issuer(&client).await?,
            jwks: requests::jwks(&client).await?,
            api_server_url: cluster
                .server
                .clone()
                .context("the kubeconfig's cluster has no server")?,
            cluster,
            kubeconfig_path: kubeconfig::write(&directory.join("admin.kubeconfig"), &admin)?,
            admin,
            ca_pem_path,
            files: AtomicU64::new(0),
            tools,
            own: None,
            supervisor,
        })
    }

    pub(crate) fn admin(&self) -> &Kubeconfig {
        &self.admin
    }

    /// The `iss` of the cluster's `ServiceAccount` tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// The keys that verify them, as the API server publishes them (JSON).
    pub fn jwks(&self) -> &str {
        &self.jwks
    }

    /// The private key that signs them (PKCS#8 PEM), for tokens that no API server would issue, such as
    /// expired ones. `None` for an existing cluster.
    pub fn service_account_signing_key_path(&self) -> Option<&Path> {
        self.own.as_ref().map(|own| own.signing_key_path.as_path())
    }

    /// Where the API server listens (https).
    pub fn api_server_url(&self) -> &str {
        &self.api_server_url
    }

    /// The CA that the API server's certificate is signed by.
    pub fn ca_pem_path(&self) -> &Path {
        &self.ca_pem_path
    }

    /// Everything of this plane that is removed at its end; others may put files there.
    pub fn directory(&self) -> &Path {
        self.supervisor.directory()
    }

    /// The supervisor of this plane: processes that are started under it end with it, at the latest.
    pub fn supervisor(&self) -> &Arc<Supervisor> {
        &self.supervisor
    }

    /// The programs that were found or built.
    pub fn tools(&self) -> &Tools {
        &self.tools
    }

    /// The processes of the plane; none for an existing cluster.
    pub fn pids(&self) -> Vec<u32> {
        self.own
            .as_ref()
            .map(|own| own.processes.pids())
            .unwrap_or_default()
    }

    /// The folder of the logs.
    pub fn logs_dir(&self) -> PathBuf {
        self.supervisor.logs_dir()
    }

    /// Keeps the logs when the plane ends. A panic does so by itself; a test that fails by returning an error
    /// does not.
    pub fn keep_logs(&self) {
        self.supervisor.keep_logs();
    }

    /// Resolves when one of the plane's processes has ended unexpectedly; never for an existing cluster.
    pub async fn failed(&self) -> anyhow::Error {
        match &self.own {
            Some(own) => own.processes.failed().await,
            None => std::future::pending().await,
        }
    }

    /// Stops the API server and starts it again: same address, same keys, same objects.
    ///
    /// # Errors
    /// It does not come back, or the cluster is not ours to restart.
    pub async fn restart_api_server(&self) -> anyhow::Result<()> {
        let Some(own) = &self.own else {
            bail!("an existing cluster's API server is not restarted")
        };
        own.processes
            .restart_api_server(&self.supervisor, &self.client()?)
            .await
    }

    /// Restarts the controller manager. Its garbage collector looks for new kinds only every 30 s: after CRDs
    /// were installed, this makes it know them within a second or two. Nothing to do for an existing cluster.
    ///
    /// # Errors
    /// It cannot be started.
    pub async fn restart_controller_manager(&self) -> anyhow::Result<()> {
        match &self.own {
            Some(own) => own.processes.restart_controller_manager(&self.supervisor).await,
            None => Ok(()),
        }
    }

    /// Stops the processes in order and removes everything. Dropping does the same without asking them first.
    pub async fn stop(self) {
        if let Some(own) = &self.own {
            own.processes.stop().await;
        }
    }
}

impl Drop for ControlPlane {
    fn drop(&mut self) {
        // Not left to the last user of the supervisor: a plane that is gone must be gone.
        self.supervisor.close();
    }
}
