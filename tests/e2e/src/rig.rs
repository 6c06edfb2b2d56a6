//! Brokers without a control plane: a simulated Azure in this process, real `broker` processes in front of it, and callers
//! of a simulated cluster. For everything in which Kubernetes has no part; it is there in a second.
//!
//! What a fault does must be felt by one case and no other, so each case has a [`Site`] of its own. What cases of one
//! broker share all the same is the metadata service: a case that spoils it takes a broker of its own.

mod broker;
mod caller;
mod configuration;
mod site;
mod trap;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context as _;
use azure_simulator::{Handle, Issuer, Registry, Role, ServiceAccountToken, Simulator, State};
use controlplane::{Program, Supervisor, free_ports};
use proto::v1::{GetDockerConfigRequest, GetDockerConfigResponse};
use serde_json::Value;

pub use broker::Broker;
pub use caller::{Answer, Caller, Refusal};
pub use site::{BuiltInCloud, Site, SiteOptions};
pub use trap::Trap;

use crate::{BROKER_AUDIENCE, Binaries, FEDERATION_AUDIENCE, ServerCertificate};

/// The issuer of the one cluster.
pub const ISSUER: &str = "https://cluster.example/";
/// The namespace that every request is about, and its ServiceAccount.
pub const TEAM: &str = "team";
/// See [`TEAM`].
pub const ACCOUNT: &str = "web";
/// What every request asks for, unless it says otherwise.
pub const SCOPE: &str = "repository:team/web:pull";

/// The syncer's ServiceAccount.
const SYNCER: (&str, &str) = ("acrpull-system", "acrpull-syncer");
/// The ServiceAccount of somebody who looks after the brokers.
const OPERATOR: (&str, &str) = ("acrpull-system", "operator");
/// Names and addresses of the brokers' certificate. A client that knows the replicas by one name verifies that name.
const NAMES: [&str; 4] = [Rig::HOST, "127.0.0.1", "127.0.0.2", "127.0.0.3"];

/// A simulated Azure, and all that a broker needs in front of it. Dropping it ends everything.
pub struct Rig {
    azure: Handle,
    sites: Vec<Site>,
    bearer: String,
    subject_token: String,
    certificate: ServerCertificate,
    files: configuration::Files,
    binary: PathBuf,
    // Last: it kills what still runs.
    supervisor: Arc<Supervisor>,
}

impl Rig {
    /// The name that all replicas have together.
    pub const HOST: &str = "broker.example";

    /// Starts the simulator with these sites in it, and writes the brokers' configuration.
    ///
    /// # Errors
    /// The simulator does not start, or the broker cannot be built.
    pub async fn start(
        name: &str,
        sites: impl IntoIterator<Item = impl Into<SiteOptions>>,
    ) -> anyhow::Result<Self> {
        let binary = Binaries::of(&["broker"]).await?.path("broker")?;
        let supervisor = Supervisor::new(name)?;
        let sites: Vec<Site> = (1..)
            .zip(sites)
            .map(|(number, options)| Site::new(number, options.into()))
            .collect();
        let azure = Simulator::builder()
            .state(state(&sites))
            .start()
            .await
            .context("failed to start the simulator")?;
        let certificate = ServerCertificate::issue(&NAMES)?;
        let files = configuration::write(supervisor.directory(), &azure, &sites, &certificate)?;
        let (namespace, account) = SYNCER;
        let token = |namespace, account, audience| {
            azure.service_account_token(&ServiceAccountToken::new(ISSUER, namespace, account, audience))
        };
        Ok(Self {
            bearer: token(namespace, account, BROKER_AUDIENCE)?,
            subject_token: token(TEAM, ACCOUNT, FEDERATION_AUDIENCE)?,
            azure,
            sites,
            certificate,
            files,
            binary,
            supervisor,
        })
    }

    /// Starts a broker and waits until it is ready.
    ///
    /// # Errors
    /// It ends or does not become ready in time (with its last log lines).
    pub async fn broker(&self, name: &str) -> anyhow::Result<Broker> {
        let [port] = free_ports()?;
        self.broker_at(name, IpAddr::V4(Ipv4Addr::LOCALHOST), port).await
    }

    /// The same at a chosen address of the loopback network, for replicas that share a port.
    ///
    /// # Errors
    /// As [`Self::broker`].
    pub async fn broker_at(&self, name: &str, ip: IpAddr, port: u16) -> anyhow::Result<Broker> {
        self.start_broker(name, (ip, port).into(), &self.files, &[]).await
    }

    /// One with these variables in its environment and with another configuration.
    ///
    /// # Errors
    /// As [`Self::broker`], or the configuration cannot be written.
    pub async fn broker_with(
        &self,
        name: &str,
        environment: &[(&str, &str)],
        change: impl FnOnce(&mut Value),
    ) -> anyhow::Result<Broker> {
        let files = self.files.changed(name, change)?;
        let [port] = free_ports()?;
        self.start_broker(name, (Ipv4Addr::LOCALHOST, port).into(), &files, environment)
            .await
    }

    async fn start_broker(
        &self,
        name: &str,
        listen: SocketAddr,
        files: &configuration::Files,
        environment: &[(&str, &str)],
    ) -> anyhow::Result<Broker> {
        let [admin] = free_ports()?;
        let admin = (Ipv4Addr::LOCALHOST, admin).into();
        let bare = Program::new(&self.binary).clear_env();
        let program = environment
            .iter()
            .fold(bare, |program, (name, value)| program.env(name, value))
            .arg("run")
            .arg(format!("--listen-address={listen}"))
            .arg(format!("--admin-address={admin}"))
            .args(files.arguments())
            // The most that it ever logs, because all of it is searched for secrets.
            .arg("--log-level=trace");
        let broker = Broker::new(Arc::clone(&self.supervisor), name, program, (listen, admin));
        broker.start().await?;
        Ok(broker)
    }

    /// The simulated Azure.
    pub fn azure(&self) -> &Handle {
        &self.azure
    }

    /// All sites.
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The site with this name.
    ///
    /// # Errors
    /// It was not named at the start.
    pub fn site(&self, name: &str) -> anyhow::Result<&Site> {
        let found = self.sites.iter().find(|site| site.name == name);
        found.with_context(|| format!("there is no site {name}"))
    }

    /// The syncer, connected to a broker.
    ///
    /// # Errors
    /// The certificate cannot be used.
    pub fn caller(&self, broker: &Broker) -> anyhow::Result<Caller> {
        Caller::new(broker, &self.certificate.ca_pem, &self.bearer)
    }

    /// The same with another token.
    ///
    /// # Errors
    /// As [`Self::caller`].
    pub fn caller_with(&self, broker: &Broker, bearer: &str) -> anyhow::Result<Caller> {
        Caller::new(broker, &self.certificate.ca_pem, bearer)
    }

    /// A new token of the syncer, signed with the cluster's newest key.
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn syncer_token(&self) -> anyhow::Result<String> {
        let (namespace, account) = SYNCER;
        let wanted = ServiceAccountToken::new(ISSUER, namespace, account, BROKER_AUDIENCE);
        Ok(self.azure.service_account_token(&wanted)?)
    }

    /// Tells the brokers the cluster's keys as they are now.
    ///
    /// # Errors
    /// The file cannot be replaced.
    pub fn publish_keys(&self) -> anyhow::Result<()> {
        self.files.replace_keys(&self.azure.issuer_jwks_json(ISSUER)?)
    }

    /// Whether the registry takes a credential, by the way that a container runtime goes.
    ///
    /// # Errors
    /// The credential is not what a kubelet could use, or the registry does not answer.
    pub async fn is_accepted(
        &self,
        site: &Site,
        credential: &GetDockerConfigResponse,
    ) -> anyhow::Result<bool> {
        let config: Value = serde_json::from_slice(&credential.docker_config_json)
            .ok()
            .context("the payload is not JSON")?;
        let login = |member| {
            config
                .pointer(&format!("/auths/{}/{member}", site.registry))
                .and_then(Value::as_str)
        };
        let (user, password) = login("username")
            .zip(login("password"))
            .context("the payload has no login")?;
        let url = format!(
            "https://{0}/oauth2/token?service={0}&scope={SCOPE}",
            site.registry
        );
        let client = self.azure.client()?.build()?;
        let answer = client.get(url).basic_auth(user, Some(password)).send().await?;
        Ok(answer.status().is_success())
    }

    /// A request for the application of a site, with the ServiceAccount's token of this rig.
    pub fn federated(&self, site: &Site) -> GetDockerConfigRequest {
        site.federated(&self.subject_token)
    }

    /// The file with the CA of the brokers' certificate.
    pub fn ca_file(&self) -> PathBuf {
        self.files.ca()
    }

    /// A file with the syncer's own token.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn token_file(&self) -> anyhow::Result<PathBuf> {
        let path = self.supervisor.directory().join("token");
        std::fs::write(&path, &self.bearer).context("failed to write the syncer's token")?;
        Ok(path)
    }

    /// A file with an operator's token.
    ///
    /// # Errors
    /// It cannot be written, or the key cannot be made.
    pub fn operator_token_file(&self) -> anyhow::Result<PathBuf> {
        let (namespace, account) = OPERATOR;
        let wanted = ServiceAccountToken::new(ISSUER, namespace, account, BROKER_AUDIENCE);
        let path = self.supervisor.directory().join("operator-token");
        std::fs::write(&path, self.azure.service_account_token(&wanted)?)
            .context("failed to write the operator's token")?;
        Ok(path)
    }

    /// The folder of the brokers' configuration.
    pub fn folder(&self) -> &Path {
        self.supervisor.directory()
    }

    /// Keeps the logs of all brokers: for a test that has failed.
    pub fn keep_logs(&self) {
        self.supervisor.keep_logs();
    }
}

fn state(sites: &[Site]) -> State {
    let subject = format!("system:serviceaccount:{TEAM}:{ACCOUNT}");
    let state = State::default().with_issuer(Issuer::simulated(ISSUER));
    sites.iter().fold(state, |state, site| {
        let registry = Registry::new(&site.registry, &site.tenant)
            .with_role(&site.application.object_id, Role::AcrPull)
            .with_role(&site.identity_object_id, Role::AcrPull);
        let state = match site.simulated_cloud() {
            Some(cloud) => state.with_cloud(cloud),
            None => state,
        };
        state
            .with_tenant_in(&site.tenant, site.simulated_cloud_name())
            .with_principal(
                site.simulated_application()
                    .federated(ISSUER, &subject, FEDERATION_AUDIENCE),
            )
            .with_vm_identity(site.simulated_identity())
            .with_registry(registry)
    })
}
