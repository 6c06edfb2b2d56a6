//! Images that can be pulled: a real registry behind a simulated one, and crane as the client.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context as _, anyhow};
use controlplane::{Crane, Registry, RegistryOptions, Supervisor, TokenAuth, Tools};
use tokio::sync::Mutex;

use crate::Azure;

/// What every image of ours contains: name and content of its one file.
pub const IMAGE_FILE: (&str, &str) = ("hello.txt", "hello from a private registry\n");

/// Who issues the tokens of a container registry.
const TOKEN_ISSUER: &str = "Azure Container Registry";

/// The registries with images. One real registry process serves one host, because it accepts one audience.
pub struct Images {
    registries: Mutex<HashMap<String, Arc<Registry>>>,
    supervisor: Arc<Supervisor>,
    tools: Tools,
}

impl Images {
    pub(crate) fn new(supervisor: &Arc<Supervisor>, tools: &Tools) -> Self {
        Self {
            registries: Mutex::default(),
            supervisor: Arc::clone(supervisor),
            tools: tools.clone(),
        }
    }

    /// Makes an image in a registry that the simulator has; the first one of a host starts the process behind it.
    /// Returns the digest.
    ///
    /// # Errors
    /// The process does not start, or the push fails.
    pub async fn push(
        &self,
        azure: &Azure,
        host: &str,
        repository: &str,
        tag: &str,
    ) -> anyhow::Result<String> {
        let registry = {
            let mut registries = self.registries.lock().await;
            if let Some(registry) = registries.get(host) {
                Arc::clone(registry)
            } else {
                let registry = Arc::new(start(azure, host).await?);
                registries.insert(host.to_owned(), Arc::clone(&registry));
                registry
            }
        };
        registry.push_image(repository, tag, &[IMAGE_FILE]).await
    }

    /// Pulls an image with nothing but this payload as credentials, as a node behind an egress proxy does: names are
    /// the real ones, TLS is verified. Returns the image's files as a tar archive.
    ///
    /// # Errors
    /// The registry refuses, in crane's words.
    pub async fn pull(&self, azure: &Azure, reference: &str, docker_config: &str) -> anyhow::Result<Vec<u8>> {
        let folder =
            tempfile::tempdir_in(self.supervisor.directory()).context("failed to create a folder")?;
        std::fs::write(folder.path().join("config.json"), docker_config)
            .context("failed to write config.json")?;
        let ca_file = folder.path().join("ca.pem");
        std::fs::write(&ca_file, azure.ca_pem()).context("failed to write the CA")?;
        Crane::new(Arc::clone(&self.supervisor), &self.tools)
            .env("DOCKER_CONFIG", folder.path())
            .env("SSL_CERT_FILE", &ca_file)
            .env("HTTPS_PROXY", format!("http://{}", azure.addresses().proxy))
            .pull(reference)
            .await
    }

    /// The processes: host and process id.
    pub async fn pids(&self) -> Vec<(String, u32)> {
        let registries = self.registries.lock().await;
        registries
            .iter()
            .map(|(host, registry)| (host.clone(), registry.process().pid()))
            .collect()
    }

    /// Resolves when one of the registries that run by now ends by itself.
    pub async fn failed(&self) -> anyhow::Error {
        let registries: Vec<Arc<Registry>> = self.registries.lock().await.values().map(Arc::clone).collect();
        if registries.is_empty() {
            return std::future::pending().await;
        }
        let ends = registries
            .iter()
            .map(|registry| Box::pin(registry.process().exited()));
        let (_status, ended, _others) = futures::future::select_all(ends).await;
        registries.get(ended).map_or_else(
            || anyhow!("a registry ended"),
            |registry| registry.process().failure(),
        )
    }
}

async fn start(azure: &Azure, host: &str) -> anyhow::Result<Registry> {
    let auth = TokenAuth {
        realm: format!("https://{host}/oauth2/token"),
        service: host.to_owned(),
        issuer: TOKEN_ISSUER.to_owned(),
        jwks_json: azure.acr_jwks().to_owned(),
    };
    let registry = Registry::start(&RegistryOptions { auth: Some(auth) }).await?;
    let backend = format!("http://{}", registry.address());
    let mut found = false;
    azure
        .update(|state| {
            if let Some(registry) = state.registry_mut(host) {
                registry.backend = Some(backend);
                found = true;
            }
        })
        .await?;
    found
        .then_some(registry)
        .with_context(|| format!("there is no registry {host}"))
}
