//! A CNCF distribution registry: a real one, because what it refuses is what is to be shown.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::json;
use tokio::net::TcpStream;

use crate::crane::Crane;
use crate::plane::{free_ports, is_port_taken};
use crate::supervisor::{Process, Program, Supervisor};
use crate::tools::{Tool, Tools};

/// It listens well under a second after its start.
const READY_TIMEOUT: Duration = Duration::from_secs(30);

/// How often a connection is tried.
const READY_INTERVAL: Duration = Duration::from_millis(50);

/// How often a start is tried, each time with another port.
const START_ATTEMPTS: u32 = 3;

/// How long it may take to end when asked.
const STOP_GRACE: Duration = Duration::from_secs(3);

/// Whose tokens a registry accepts.
#[derive(Debug, Clone)]
pub struct TokenAuth {
    /// The URL of the token endpoint, as its challenge names it.
    pub realm: String,
    /// Its own name: the `aud` of its tokens, and `service` in its challenge.
    pub service: String,
    /// The `iss` of its tokens.
    pub issuer: String,
    /// The keys that its tokens are verified with; it takes the one whose `kid` the token names.
    pub jwks_json: String,
}

/// What can be chosen about a registry.
#[derive(Debug, Clone, Default)]
pub struct RegistryOptions {
    /// Token authentication; none: everybody may do everything.
    pub auth: Option<TokenAuth>,
}

/// A running registry, plain HTTP on loopback. One process serves one `service` name.
pub struct Registry {
    address: SocketAddr,
    process: Process,
    tools: Tools,
    storage: PathBuf,
    supervisor: Arc<Supervisor>,
}

impl Registry {
    /// Starts a registry with empty storage.
    ///
    /// # Errors
    /// The tool is missing and cannot be built, or the process ends early (with its last log lines).
    pub async fn start(options: &RegistryOptions) -> anyhow::Result<Self> {
        let tools = Tools::resolve().await?;
        let supervisor = Supervisor::new("registry")?;
        let storage = supervisor.directory().join("storage");
        std::fs::create_dir(&storage).context("failed to create the registry's storage")?;
        let (address, process) =
            launch(&supervisor, &tools, &storage, "registry", options.auth.as_ref()).await?;
        Ok(Self {
            address,
            process,
            tools,
            storage,
            supervisor,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, to watch or to kill.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Puts an image into the storage, past authentication: a second registry process without any, on the
    /// same storage, lives for this one push. Pushing through the first would need a token with a `push`
    /// action, which is not what is tested. Two processes can share the storage because it is files, and
    /// neither caches what it read.
    ///
    /// Returns the image's digest. `files` are what the image contains.
    ///
    /// # Errors
    /// The second process or the push fails.
    pub async fn push_image(
        &self,
        repository: &str,
        tag: &str,
        files: &[(&str, &str)],
    ) -> anyhow::Result<String> {
        let (address, open) = launch(
            &self.supervisor,
            &self.tools,
            &self.storage,
            "registry-push",
            None,
        )
        .await?;
        let crane = Crane::new(Arc::clone(&self.supervisor), &self.tools);
        let digest = crane
            .push_new(&format!("{address}/{repository}:{tag}"), files)
            .await;
        open.terminate(STOP_GRACE).await;
        digest
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.supervisor.close();
    }
}

async fn launch(
    supervisor: &Supervisor,
    tools: &Tools,
    storage: &std::path::Path,
    name: &str,
    auth: Option<&TokenAuth>,
) -> anyhow::Result<(SocketAddr, Process)> {
    let directory = supervisor.directory();
    for _ in 0..START_ATTEMPTS {
        let [port] = free_ports()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let jwks_path = directory.join(format!("{name}-jwks.json"));
        if let Some(auth) = auth {
            std::fs::write(&jwks_path, &auth.jwks_json).context("failed to write the registry's keys")?;
        }
        let mut configuration = json!({
            "version": "0.1",
            "log": {"level": "info"},
            "storage": {"filesystem": {"rootdirectory": storage}},
            "http": {"addr": address.to_string()},
        });
        if let (Some(auth), Some(object)) = (auth, configuration.as_object_mut()) {
            let TokenAuth {
                realm,
                service,
                issuer,
                jwks_json: _,
            } = auth;
            let token = json!({"realm": realm, "service": service, "issuer": issuer, "jwks": jwks_path});
            object.insert("auth".to_owned(), json!({"token": token}));
        }
        let configuration_path = directory.join(format!("{name}.yaml"));
        std::fs::write(&configuration_path, configuration.to_string())
            .context("failed to write the registry's file")?;
        // REGISTRY_* variables would override the file.
        let program = Program::new(tools.path(Tool::Registry))
            .clear_env()
            .arg("serve")
            .arg(&configuration_path);
        let process = supervisor.spawn(name, &program)?;
        if listens(&process, address).await? {
            return Ok((address, process));
        }
    }
    bail!("the registry found no free port in {START_ATTEMPTS} attempts")
}

/// Waits until the process listens; `false` if another process has its port.
async fn listens(process: &Process, address: SocketAddr) -> anyhow::Result<bool> {
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(READY_INTERVAL).await;
        }
        // Whoever answered on a port that was taken was not this process, which is about to end.
        tokio::time::sleep(READY_INTERVAL).await;
    };
    tokio::select! {
        biased;
        _ = process.exited() => {
            if is_port_taken(&process.log_tail()) { Ok(false) } else { Err(process.failure()) }
        }
        result = tokio::time::timeout(READY_TIMEOUT, connected) => {
            result.with_context(|| format!("the registry did not listen in time:\n{}", process.log_tail()))?;
            Ok(true)
        }
    }
}
