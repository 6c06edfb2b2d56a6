//! The simulated Azure: its start, in this process or as one of its own, and what tests set up in it.
//!
//! Everything goes over its admin API, so both ways are one. Names of tests never meet: each has its own registry
//! and its own identities, so one simulator serves them all and what it counted can be told apart.

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use azure_simulator::{
    Addresses, AdminClient, Calls, Fault, Handle, IssuedSecret, Principal, Registry, Role, Simulator, State,
};
use controlplane::{Process, Program, Supervisor};
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{Binaries, wait};

/// The one tenant of the tests, and the subscription of their managed identities.
pub const TENANT: &str = "22222222-2222-2222-2222-222222222222";
/// See [`TENANT`].
pub const SUBSCRIPTION: &str = "44444444-4444-4444-4444-444444444444";

/// The simulator makes its keys before it listens.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How the simulator runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SimulatorKind {
    /// On threads of this process.
    #[default]
    InProcess,
    /// As its own binary, so that a person sees it as a process.
    Process,
}

/// A running simulated Azure.
pub struct Azure {
    admin: AdminClient,
    addresses: Addresses,
    ca_pem: String,
    acr_jwks: String,
    running: Running,
    /// A change is a read and a write: one at a time.
    changes: Mutex<()>,
}

enum Running {
    InProcess { _handle: Handle },
    Process(Process),
}

/// An application in Entra ID.
#[derive(Debug, Clone)]
pub struct Application {
    /// Application (client) ID.
    pub client_id: String,
    /// What roles are assigned to.
    pub object_id: String,
}

/// A user-assigned managed identity of the machine that the broker runs on.
#[derive(Debug, Clone)]
pub struct VmIdentity {
    /// Its name, the last part of the resource ID.
    pub name: &'static str,
    /// Client ID.
    pub client_id: String,
    /// What roles are assigned to.
    pub object_id: String,
    /// Azure resource ID.
    pub resource_id: String,
}

impl VmIdentity {
    /// An identity with ids that follow from a number, so that a configuration can name them before they exist.
    pub fn numbered(name: &'static str, number: u8) -> Self {
        Self {
            name,
            client_id: format!("33333333-3333-3333-3333-0000000000{number:02x}"),
            object_id: format!("55555555-5555-5555-5555-0000000000{number:02x}"),
            resource_id: format!(
                "/subscriptions/{SUBSCRIPTION}/resourceGroups/rg/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}"
            ),
        }
    }

    /// The same as the simulator wants it.
    pub fn principal(&self) -> Principal {
        Principal::user_assigned(TENANT, &self.client_id, &self.object_id, &self.resource_id)
    }
}

impl Azure {
    pub(crate) async fn start(
        kind: SimulatorKind,
        state: State,
        supervisor: &Supervisor,
        binaries: &Binaries,
    ) -> anyhow::Result<Self> {
        let (addresses, running) = match kind {
            SimulatorKind::InProcess => {
                let handle = Simulator::builder()
                    .state(state)
                    .start()
                    .await
                    .context("failed to start the simulator")?;
                (handle.addresses(), Running::InProcess { _handle: handle })
            }
            SimulatorKind::Process => {
                let (addresses, process) = spawn(&state, supervisor, binaries).await?;
                (addresses, Running::Process(process))
            }
        };
        let admin = AdminClient::new(addresses.admin)?;
        let (ca_pem, acr_jwks) = (admin.ca_pem().await?, admin.acr_jwks().await?);
        Ok(Self {
            admin,
            addresses,
            ca_pem,
            acr_jwks,
            running,
            changes: Mutex::new(()),
        })
    }

    /// Where its listeners are.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The certificate that its clients trust.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// The keys that a registry behind it trusts (JWKS).
    pub fn acr_jwks(&self) -> &str {
        &self.acr_jwks
    }

    /// Everything else that can be asked of it.
    pub fn admin(&self) -> &AdminClient {
        &self.admin
    }

    /// Its process id, if it is a process of its own.
    pub fn pid(&self) -> Option<u32> {
        match &self.running {
            Running::InProcess { .. } => None,
            Running::Process(process) => Some(process.pid()),
        }
    }

    /// Resolves when it ends by itself.
    pub async fn failed(&self) -> anyhow::Error {
        match &self.running {
            Running::InProcess { .. } => std::future::pending().await,
            Running::Process(process) => {
                process.exited().await;
                process.failure()
            }
        }
    }

    /// Changes what exists.
    ///
    /// # Errors
    /// The change contradicts what is there.
    pub async fn update(&self, change: impl FnOnce(&mut State)) -> anyhow::Result<()> {
        let _one_at_a_time = self.changes.lock().await;
        Ok(self.admin.update(change).await?)
    }

    /// Adds a registry with this login server.
    ///
    /// # Errors
    /// It is there already.
    pub async fn add_registry(&self, host: &str) -> anyhow::Result<()> {
        self.update(|state| state.registries.push(Registry::new(host, TENANT)))
            .await
    }

    /// Adds an application that trusts the `ServiceAccount` of a cluster with this issuer.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn add_application(
        &self,
        issuer: &str,
        namespace: &str,
        account: &str,
    ) -> anyhow::Result<Application> {
        let (client_id, object_id) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
        let subject = format!("system:serviceaccount:{namespace}:{account}");
        let principal = Principal::app(TENANT, &client_id, &object_id).federated(
            issuer,
            &subject,
            crate::FEDERATION_AUDIENCE,
        );
        self.update(|state| state.principals.push(principal)).await?;
        Ok(Application { client_id, object_id })
    }

    /// Lets a principal pull from a registry, from now on.
    ///
    /// # Errors
    /// There is no such registry or principal.
    pub async fn grant_pull(&self, host: &str, object_id: &str) -> anyhow::Result<()> {
        let mut found = false;
        self.update(|state| {
            if let Some(registry) = state.registry_mut(host) {
                registry.grant(object_id, Role::AcrPull, None);
                found = true;
            }
        })
        .await?;
        found
            .then_some(())
            .with_context(|| format!("there is no registry {host}"))
    }

    /// Makes something go wrong.
    ///
    /// # Errors
    /// The fault could never hit.
    pub async fn add_fault(&self, fault: Fault) -> anyhow::Result<()> {
        self.admin.add_fault(&fault).await?;
        Ok(())
    }

    /// Everything that was asked of it.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn calls(&self) -> anyhow::Result<Calls> {
        Ok(self.admin.calls().await?)
    }

    /// Everything secret that it handed out.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn issued(&self) -> anyhow::Result<Vec<IssuedSecret>> {
        Ok(self.admin.issued().await?)
    }

    /// Everything secret that came to Entra to be exchanged, such as the tokens that the syncer mints.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn assertions(&self) -> anyhow::Result<Vec<String>> {
        Ok(self.admin.assertions().await?)
    }
}

async fn spawn(
    state: &State,
    supervisor: &Supervisor,
    binaries: &Binaries,
) -> anyhow::Result<(Addresses, Process)> {
    let directory = supervisor.directory();
    let (state_file, ready_file) = (directory.join("azure.json"), directory.join("azure-ready.json"));
    std::fs::write(&state_file, serde_json::to_vec(state)?)
        .context("failed to write the simulator's state")?;
    let program = Program::new(binaries.path("azure-simulator")?)
        .arg("--state")
        .arg(&state_file)
        .arg("--ready-file")
        .arg(&ready_file);
    let process = supervisor.spawn("azure-simulator", &program)?;
    let addresses = wait::poll("the simulator is ready", READY_TIMEOUT, async || {
        if process.exit_status().is_some() {
            return Err(process.failure());
        }
        Ok(read_addresses(&ready_file).ok_or("it has not said so"))
    })
    .await?;
    Ok((addresses, process))
}

/// The line that the simulator writes when it is ready has more in it than the addresses.
fn read_addresses(path: &Path) -> Option<Addresses> {
    let line: serde_json::Value = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let names = ["entra", "acr", "imds", "proxy", "admin"];
    let addresses = names.map(|name| Some((name.to_owned(), line.get(name)?.clone())));
    let addresses = addresses.into_iter().collect::<Option<serde_json::Map<_, _>>>()?;
    serde_json::from_value(addresses.into()).ok()
}
