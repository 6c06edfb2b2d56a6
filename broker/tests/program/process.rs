//! A broker with files of its own, and a caller whom it knows.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use aws_lc_rs::{
    encoding::AsBigEndian as _,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use reqwest::{Certificate, Client};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SYNCER: &str = "system:serviceaccount:acrpull-system:acrpull-syncer";
/// How long anything here may take that should not take long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A key of a cluster's API server.
#[derive(Clone)]
pub(crate) struct Signer(Arc<EcdsaKeyPair>);

/// What a broker starts with beside its configuration.
#[derive(Default)]
pub(crate) struct Setup {
    files: Vec<(&'static str, Vec<u8>)>,
    env: Vec<(&'static str, PathBuf)>,
    is_piped: bool,
    is_log_piped: bool,
}

/// A running broker; killed when dropped.
pub(crate) struct Broker {
    child: Child,
    folder: TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) ca_pem: String,
    pub(crate) signer: Signer,
    admin_client: Client,
}

impl Signer {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
        Ok(Self(Arc::new(pair)))
    }

    /// The document that publishes it.
    pub(crate) fn jwks(&self) -> anyhow::Result<String> {
        let point: aws_lc_rs::encoding::EcPublicKeyUncompressedBin<'_> = self.0.public_key().as_be_bytes()?;
        let (x, y) = point.as_ref().get(1..).context("no point")?.split_at(32);
        let [x, y] = [x, y].map(|part| URL_SAFE_NO_PAD.encode(part));
        Ok(
            json!({"keys": [{"kty": "EC", "crv": "P-256", "kid": "a", "use": "sig", "x": x, "y": y}]})
                .to_string(),
        )
    }

    /// The syncer's own token, as the API server issues it; `id` tells tokens apart.
    pub(crate) fn caller_token(&self, id: u32) -> anyhow::Result<String> {
        let now = UNIX_EPOCH.elapsed()?.as_secs();
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(&json!({"alg": "ES256", "kid": "a"})),
            part(&json!({
                "iss": ISSUER, "sub": SYNCER, "aud": ["acrpull-broker"], "jti": id,
                "iat": now, "nbf": now, "exp": now + 600,
            }))
        );
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes())?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

/// An entry of `clusters`.
pub(crate) fn cluster(name: &str, jwks: &Value) -> Value {
    json!({
        "name": name, "issuer": ISSUER, "jwks": jwks,
        "callerAudiences": ["acrpull-broker"], "subjectAudiences": ["api://AzureCRTokenExchange"],
        "syncers": [SYNCER],
    })
}

/// A configuration with one cluster whose key is that of `signer`, and with what else there is.
pub(crate) fn configuration(signer: &Signer, more: Value) -> anyhow::Result<Value> {
    let mut configuration = json!({
        "apiVersion": "config.acrpull.dev/v1alpha1", "kind": "BrokerConfiguration",
        "clusters": [cluster("weu-7", &json!({"inline": signer.jwks()?}))],
    });
    if let (Value::Object(all), Value::Object(more)) = (&mut configuration, more) {
        all.extend(more);
    }
    Ok(configuration)
}

impl Setup {
    /// Standard output is a pipe.
    pub(crate) fn piped() -> Self {
        Self {
            is_piped: true,
            ..Self::default()
        }
    }

    /// Standard error is a pipe that nobody reads.
    pub(crate) fn log_piped() -> Self {
        Self {
            is_log_piped: true,
            ..Self::default()
        }
    }

    /// A variable of the environment, which is empty but for these.
    pub(crate) fn env(mut self, name: &'static str, value: PathBuf) -> Self {
        self.env.push((name, value));
        self
    }

    /// A file beside the configuration.
    pub(crate) fn file(mut self, name: &'static str, content: &[u8]) -> Self {
        self.files.push((name, content.to_vec()));
        self
    }
}

impl Broker {
    /// Starts one and waits until it is ready.
    pub(crate) async fn start(signer: Signer, configuration: &Value, flags: &[&str]) -> anyhow::Result<Self> {
        Self::start_with(signer, configuration, flags, Setup::default()).await
    }

    /// The same with more around it.
    pub(crate) async fn start_with(
        signer: Signer,
        configuration: &Value,
        flags: &[&str],
        setup: Setup,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let ca_pem = write_files(folder.path(), configuration)?;
        for (name, content) in setup.files {
            std::fs::write(folder.path().join(name), content)?;
        }
        let (address, admin) = (free_address()?, free_address()?);
        let mut command = command(folder.path(), address, admin);
        if setup.is_piped {
            command.stdout(Stdio::piped());
        }
        if setup.is_log_piped {
            command.stderr(Stdio::piped());
        }
        let child = command
            .args(flags)
            .envs(setup.env)
            .spawn()
            .context("failed to start the broker")?;
        let broker = Self {
            child,
            folder,
            address,
            admin,
            ca_pem,
            signer,
            admin_client: Client::builder().timeout(PATIENCE).no_proxy().build()?,
        };
        broker.until_ready().await?;
        Ok(broker)
    }

    async fn until_ready(&self) -> anyhow::Result<()> {
        let ready = async {
            while self.admin_status("/readyz").await.ok() != Some(200) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, ready).await.is_err() {
            bail!("the broker is not ready: {}", self.log()?);
        }
        Ok(())
    }

    /// The status of a page of the admin listener.
    pub(crate) async fn admin_status(&self, path: &str) -> anyhow::Result<u16> {
        let url = format!("http://{}{path}", self.admin);
        Ok(self.admin_client.get(url).send().await?.status().as_u16())
    }

    /// What `/metrics` says.
    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        let url = format!("http://{}/metrics", self.admin);
        Ok(self.admin_client.get(url).send().await?.text().await?)
    }

    /// A client that trusts the broker; `idle` connections are kept for later requests.
    pub(crate) fn client(&self, idle: usize) -> anyhow::Result<Client> {
        Ok(Client::builder()
            .tls_certs_only([Certificate::from_pem(self.ca_pem.as_bytes())?])
            .pool_max_idle_per_host(idle)
            .timeout(PATIENCE)
            .no_proxy()
            .build()?)
    }

    /// Asks for a credential in the JSON form; status and `reason` of the answer.
    pub(crate) async fn ask(
        &self,
        client: &Client,
        token: &str,
        body: &Value,
    ) -> anyhow::Result<(u16, String)> {
        self.ask_at("/v1/docker-config", client, token, body).await
    }

    /// The same at another route.
    pub(crate) async fn ask_at(
        &self,
        path: &str,
        client: &Client,
        token: &str,
        body: &Value,
    ) -> anyhow::Result<(u16, String)> {
        let response = client
            .post(format!("https://{}{path}", self.address))
            .bearer_auth(token)
            .header("content-type", "application/json")
            .body(body.to_string())
            .send()
            .await?;
        let status = response.status().as_u16();
        let problem: Value = serde_json::from_slice(&response.bytes().await?)?;
        Ok((
            status,
            problem
                .get("reason")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
        ))
    }

    /// Sends a signal to it.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        kill_process(self.pid()?, signal)?;
        Ok(())
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, ended)
            .await
            .context("the broker does not end")?
    }

    /// The other end of its standard output, once.
    pub(crate) fn stdout(&mut self) -> Option<ChildStdout> {
        self.child.stdout.take()
    }

    /// Where one of its files is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> anyhow::Result<String> {
        Ok(std::fs::read_to_string(log_path(self.folder.path()))?)
    }

    /// Waits until it has logged this: lines are written by a thread of their own.
    pub(crate) async fn has_logged(&self, text: &str) -> anyhow::Result<()> {
        let logged = async {
            while !self.log()?.contains(text) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        tokio::time::timeout(PATIENCE, logged)
            .await
            .with_context(|| format!("{text:?} is not logged"))?
    }

    /// How many sockets of its main listener it holds. Not by its own list of files: that is nobody's to read.
    pub(crate) fn open_sockets(&self) -> anyhow::Result<usize> {
        /// The kernel has accepted it and the process not yet, or the process has closed it and the peer not yet.
        const OF_NO_PROCESS: &str = "0";
        let port = format!(":{:04X}", self.address.port());
        let table = std::fs::read_to_string("/proc/net/tcp")?;
        let is_held = |line: &&str| {
            let mut fields = line.split_whitespace();
            let is_local = fields.nth(1).is_some_and(|local| local.ends_with(&port));
            is_local && fields.nth(7).is_some_and(|inode| inode != OF_NO_PROCESS)
        };
        Ok(table.lines().skip(1).filter(is_held).count())
    }

    /// Its memory in MiB, the most that it ever was.
    pub(crate) fn peak_memory_mib(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024)
    }

    fn pid(&self) -> anyhow::Result<Pid> {
        Pid::from_raw(i32::try_from(self.child.id())?).context("no process")
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell either way.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs a broker that cannot start; its exit code and what it says.
pub(crate) fn refused(configuration: &Value, flags: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let folder = tempfile::tempdir()?;
    write_files(folder.path(), configuration)?;
    let status = command(folder.path(), free_address()?, free_address()?)
        .args(flags)
        .status()?;
    Ok((status.code(), std::fs::read_to_string(log_path(folder.path()))?))
}

fn command(folder: &Path, address: SocketAddr, admin: SocketAddr) -> Command {
    let file = |name: &str| folder.join(name).display().to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_broker"));
    command
        .env_clear()
        .arg("run")
        .arg(format!("--config={}", file("config.yaml")))
        .arg(format!("--tls-cert-file={}", file("tls.crt")))
        .arg(format!("--tls-key-file={}", file("tls.key")))
        .arg(format!("--listen-address={address}"))
        .arg(format!("--admin-address={admin}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    if let Ok(log) = std::fs::File::create(log_path(folder)) {
        command.stderr(log);
    }
    command
}

fn log_path(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// JSON is YAML. The certificate is its own root.
fn write_files(folder: &Path, configuration: &Value) -> anyhow::Result<String> {
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()])?;
    std::fs::write(folder.join("config.yaml"), configuration.to_string())?;
    std::fs::write(folder.join("tls.crt"), cert.pem())?;
    std::fs::write(folder.join("tls.key"), signing_key.serialize_pem())?;
    Ok(cert.pem())
}

/// Free a moment ago, which on the loopback interface of a test is good enough.
fn free_address() -> anyhow::Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
