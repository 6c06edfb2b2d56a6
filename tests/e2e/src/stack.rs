//! Everything at once: control plane, simulated Azure, collector, broker and syncer.
//!
//! Broker and syncer are installed with Helm from their charts and run by [`crate::kubelet`]. The broker is a remote one
//! for the syncer (`https://localhost:PORT`), because Service addresses lead nowhere without a network.

mod install;
mod values;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use azure_simulator::{Issuer, State};
use controlplane::{ControlPlane, ControlPlaneOptions};
use kube::Client;
use serde_json::{Value, json};
use syncer::binding::Defaults;

pub use install::chart;

use crate::kubelet::Node;
use crate::rig::Trap;
use crate::{
    Azure, Binaries, ClientAuthority, Collector, Images, Machine, Pod, ServerCertificate, SimulatorKind,
    TENANT, Team, VmIdentity,
};

/// Where both charts are installed.
pub const NAMESPACE: &str = "acrpull-system";
/// What the broker's configuration calls the cluster.
pub const CLUSTER: &str = "e2e";
/// Audience of callers' tokens.
pub const BROKER_AUDIENCE: &str = "acrpull-broker";
/// Audience of the tokens that Entra takes.
pub const FEDERATION_AUDIENCE: &str = "api://AzureCRTokenExchange";
/// The syncer's `sub`.
pub const SYNCER_SUBJECT: &str = "system:serviceaccount:acrpull-system:acrpull-syncer";
/// The `sub` of a second syncer, which a test may install.
pub(crate) const SECOND_SYNCER_SUBJECT: &str = "system:serviceaccount:acrpull-system:acrpull-narrow";
/// The name in the syncer's certificate, where it has one.
pub const SYNCER_CERTIFICATE_NAME: &str = "acrpull-syncer.acrpull-system.svc";

/// The releases; each Deployment and each syncer's ServiceAccount has its release's name.
const BROKER: &str = "acrpull-broker";
const SYNCER: &str = "acrpull-syncer";

/// The names of the broker's certificate: what is used here, and what is used inside a cluster.
const BROKER_NAMES: [&str; 4] = [
    "localhost",
    "127.0.0.1",
    "acrpull-broker.acrpull-system.svc",
    "acrpull-broker-headless.acrpull-system.svc",
];

/// What can be chosen about a stack.
#[derive(Debug, Clone)]
pub struct StackOptions {
    /// Shows in the names of folders and kept logs.
    pub name: String,
    /// How the simulator runs.
    pub simulator: SimulatorKind,
    /// What exists in Azure, besides the tenant [`TENANT`], the cluster's issuer and `identities`.
    pub azure: State,
    /// Managed identities of the broker's machine, declared in its configuration.
    pub identities: Vec<VmIdentity>,
    /// The broker's `grants`.
    pub grants: Vec<Value>,
    /// The broker's `limits`.
    pub limits: Value,
    /// `clusters` besides [`CLUSTER`].
    pub more_clusters: Vec<Value>,
    /// Namespaces, as patterns, whose ServiceAccounts may ask the broker for themselves.
    pub workloads: Vec<String>,
    /// Domains of registries that the syncer's chart lets bindings name.
    pub registry_domains: Vec<String>,
    /// Clouds besides the built-in ones, which the simulator has to know as well.
    pub clouds: Vec<ExtraCloud>,
    /// Hosts, as `hostOverrides` names them, for which the broker is sent into the trap.
    pub trapped_hosts: Vec<String>,
    /// `--log-level` of both processes.
    pub log_level: String,
    /// What bindings of `v1beta1` leave out.
    pub v1beta1_defaults: Defaults,
    /// `--label-selector` of the syncer; empty means all bindings.
    pub label_selector: String,
    /// `--workers` of the syncer.
    pub workers: u16,
    /// Whether the broker requires certificates of its callers, and [`CLUSTER`] is bound to the syncer's.
    pub mutual_tls: bool,
    /// Whether both processes send their spans to the collector. A benchmark would measure the sending.
    pub traces: bool,
}

/// A cloud that only the broker's configuration knows.
#[derive(Debug, Clone)]
pub struct ExtraCloud {
    /// What the configuration calls it.
    pub name: &'static str,
    /// Host of its Entra authority.
    pub authority: &'static str,
    /// The domain of its registries.
    pub registry_suffix: &'static str,
}

/// All of it, running. Dropping it ends everything.
pub struct Stack {
    // In the order in which they are dropped: nothing outlives what it talks to.
    syncer: Pod,
    broker: Pod,
    images: Images,
    azure: Azure,
    collector: Collector,
    trap: Trap,
    certificate: ServerCertificate,
    clients: ClientAuthority,
    broker_ca_file: PathBuf,
    minted: Mutex<Vec<String>>,
    plane: Arc<ControlPlane>,
}

impl Default for StackOptions {
    fn default() -> Self {
        Self {
            name: "stack".to_owned(),
            simulator: SimulatorKind::InProcess,
            azure: State::default(),
            identities: Vec::new(),
            grants: Vec::new(),
            limits: json!({}),
            more_clusters: Vec::new(),
            workloads: Vec::new(),
            registry_domains: vec!["azurecr.io".to_owned()],
            clouds: Vec::new(),
            trapped_hosts: Vec::new(),
            log_level: "info".to_owned(),
            v1beta1_defaults: Defaults::default(),
            label_selector: String::new(),
            workers: 16,
            mutual_tls: false,
            traces: true,
        }
    }
}

impl Stack {
    /// Starts everything and waits until both processes are ready: some 20 s once the tools are built.
    ///
    /// # Errors
    /// A part does not start; the error has its last log lines.
    pub async fn start(options: StackOptions) -> anyhow::Result<Self> {
        let packages: &[&str] = match options.simulator {
            SimulatorKind::InProcess => &["broker", "syncer"],
            SimulatorKind::Process => &["broker", "syncer", "azure-simulator"],
        };
        let binaries = Binaries::of(packages).await?;
        let plane_options = ControlPlaneOptions {
            name: options.name.clone(),
            ..ControlPlaneOptions::default()
        };
        let plane = Arc::new(ControlPlane::start(plane_options).await?);
        let started = tokio::select! {
            // Otherwise a client or Helm would say that nobody answers, and not who has died.
            error = plane.failed() => Err(error),
            started = Self::start_on(Arc::clone(&plane), options, binaries) => started,
        };
        started.inspect_err(|_error| plane.keep_logs())
    }

    async fn start_on(
        plane: Arc<ControlPlane>,
        options: StackOptions,
        binaries: Binaries,
    ) -> anyhow::Result<Self> {
        let azure = Azure::start(
            options.simulator,
            state(&options, &plane)?,
            plane.supervisor(),
            &binaries,
        )
        .await?;
        let collector = Collector::start().await?;
        let trap = Trap::start().await?;
        let certificate = ServerCertificate::issue(&BROKER_NAMES)?;
        let broker_ca_file = plane.directory().join("broker-ca.pem");
        std::fs::write(&broker_ca_file, &certificate.ca_pem).context("failed to write the broker's CA")?;
        install::certificate(&plane.client()?, &certificate).await?;
        install::audit_key(&plane.client()?).await?;
        let clients = ClientAuthority::new()?;
        if options.mutual_tls {
            install::client_certificate(&plane.client()?, &clients).await?;
        }
        let node = Node {
            plane: Arc::clone(&plane),
            binaries,
            machine: Machine::default(),
        };

        // Without an endpoint the charts turn tracing off.
        let otel_endpoint = if options.traces {
            collector.endpoint()
        } else {
            String::new()
        };
        let around = values::Surroundings {
            issuer: plane.issuer(),
            jwks: plane.jwks(),
            azure: &azure,
            otel_endpoint: &otel_endpoint,
            trap: trap.address(),
        };
        install::release(&plane, BROKER, values::broker(&options, &around)).await?;
        let broker = Pod::run(&node, NAMESPACE, BROKER).await?;
        let address = format!("https://localhost:{}", broker.address("grpc-https")?.port());
        install::release(&plane, SYNCER, values::syncer(&options, &address, &around)).await?;
        // A new kind: a garbage collector that has not heard of it leaves the Secrets of a deleted binding.
        plane.restart_controller_manager().await?;
        let syncer = Pod::run(&node, NAMESPACE, SYNCER).await?;
        let images = Images::new(plane.supervisor(), plane.tools());
        Ok(Self {
            syncer,
            broker,
            images,
            azure,
            collector,
            trap,
            certificate,
            clients,
            broker_ca_file,
            minted: Mutex::default(),
            plane,
        })
    }

    /// The control plane.
    pub fn plane(&self) -> &Arc<ControlPlane> {
        &self.plane
    }

    /// An administrator's client. It works in the runtime that it was made in.
    ///
    /// # Errors
    /// An existing cluster's kubeconfig names something that cannot be read.
    pub fn client(&self) -> anyhow::Result<Client> {
        self.plane.client()
    }

    /// The simulated Azure.
    pub fn azure(&self) -> &Azure {
        &self.azure
    }

    /// Real registries with images, and pulls.
    pub fn images(&self) -> &Images {
        &self.images
    }

    /// The spans of both processes.
    pub fn collector(&self) -> &Collector {
        &self.collector
    }

    /// Where nobody must come: the broker's way to [`StackOptions::trapped_hosts`], and the syncer's proxy.
    pub fn trap(&self) -> &Trap {
        &self.trap
    }

    /// The broker's process. Its ports are `grpc-https` and `admin`.
    pub fn broker(&self) -> &Pod {
        &self.broker
    }

    /// The syncer's process. Its port is `admin`.
    pub fn syncer(&self) -> &Pod {
        &self.syncer
    }

    /// Where the broker serves gRPC and HTTP JSON: `https://localhost:PORT`.
    ///
    /// # Errors
    /// The chart has no such port.
    pub fn broker_url(&self) -> anyhow::Result<String> {
        Ok(format!(
            "https://localhost:{}",
            self.broker.address("grpc-https")?.port()
        ))
    }

    /// The CA of the broker's certificate, as PEM.
    pub fn broker_ca_pem(&self) -> &str {
        &self.certificate.ca_pem
    }

    /// The key of the broker's certificate, as PEM.
    pub fn broker_key_pem(&self) -> &str {
        &self.certificate.key_pem
    }

    /// Signs callers' certificates, which count where [`StackOptions::mutual_tls`] is set.
    pub fn clients(&self) -> &ClientAuthority {
        &self.clients
    }

    /// The broker's CA as a file.
    pub fn broker_ca_file(&self) -> &Path {
        &self.broker_ca_file
    }

    /// The file with the syncer's own token for the broker, kept fresh.
    ///
    /// # Errors
    /// The chart mounts it elsewhere.
    pub fn syncer_token_file(&self) -> anyhow::Result<PathBuf> {
        self.syncer.file("/var/run/secrets/acrpull-broker/token")
    }

    /// A token of a ServiceAccount, as `TokenRequest` issues it.
    ///
    /// # Errors
    /// There is no such ServiceAccount, or the life is under 600 s.
    pub async fn mint_token(
        &self,
        namespace: &str,
        account: &str,
        audience: &str,
        lifetime: Duration,
    ) -> anyhow::Result<String> {
        let token = self
            .plane
            .service_account_token(namespace, account, &[audience], lifetime)
            .await?;
        let mut minted = self.minted.lock().unwrap_or_else(PoisonError::into_inner);
        minted.push(token.clone());
        Ok(token)
    }

    /// Every token of [`Self::mint_token`]: secrets of the run.
    pub fn minted_tokens(&self) -> Vec<String> {
        self.minted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// A new team: a namespace whose name begins with `prefix`, and a registry of the same name.
    ///
    /// # Errors
    /// The control plane or the simulator refuses.
    pub async fn team(&self, prefix: &str) -> anyhow::Result<Team<'_>> {
        Team::new(self, prefix).await
    }

    /// Resolves when any part ends that nobody has stopped. The error names it and has its last log lines.
    pub async fn failed(&self) -> anyhow::Error {
        tokio::select! {
            error = self.plane.failed() => error,
            error = self.azure.failed() => error,
            error = self.images.failed() => error,
            error = self.broker.failed() => error,
            error = self.syncer.failed() => error,
        }
    }

    /// Stops everything in order, as gently as it can be. Dropping does the same at once.
    pub async fn stop(self) {
        self.syncer.stop().await;
        self.broker.stop().await;
        drop((self.syncer, self.broker, self.images, self.azure, self.collector));
        if let Some(plane) = Arc::into_inner(self.plane) {
            plane.stop().await;
        }
    }
}

fn state(options: &StackOptions, plane: &ControlPlane) -> anyhow::Result<State> {
    let jwks = serde_json::from_str(plane.jwks()).context("the cluster's JWKS is not JSON")?;
    let state = options
        .azure
        .clone()
        .with_tenant(TENANT)
        .with_issuer(Issuer::inline(plane.issuer(), jwks));
    let identities = options.identities.iter().map(VmIdentity::principal);
    Ok(identities.fold(state, State::with_vm_identity))
}
