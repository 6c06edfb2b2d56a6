//! A pull Secret as a kubelet reads it.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use serde::Deserialize;

/// The type that a kubelet takes, and the key that it reads.
const TYPE: &str = "kubernetes.io/dockerconfigjson";
const KEY: &str = ".dockerconfigjson";

/// A decoded pull Secret, with the object that it came from.
#[derive(Debug, Clone)]
pub struct PullSecret {
    /// The object.
    pub object: Secret,
    /// The bytes of the payload.
    pub docker_config: String,
    /// What the payload says, by registry.
    pub logins: BTreeMap<String, RegistryLogin>,
}

/// What a payload says for one registry.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryLogin {
    /// The user: the null GUID for a token.
    pub username: String,
    /// The token.
    pub password: String,
    /// Read by nobody; old clients want it.
    pub email: Option<String>,
    /// User and token once more, in base64.
    pub auth: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DockerConfig {
    auths: BTreeMap<String, RegistryLogin>,
}

impl PullSecret {
    /// Reads one.
    ///
    /// # Errors
    /// It is not what a kubelet could use.
    pub fn read(object: Secret) -> anyhow::Result<Self> {
        let name = object.name_any();
        ensure!(
            object.type_.as_deref() == Some(TYPE),
            "Secret {name} is of type {:?}",
            object.type_
        );
        let bytes = object
            .data
            .as_ref()
            .and_then(|data| data.get(KEY))
            .context("the payload is missing")?;
        let docker_config = String::from_utf8(bytes.0.clone()).context("the payload is not UTF-8")?;
        // Its errors quote the payload, which holds a token.
        let DockerConfig { auths } = serde_json::from_str(&docker_config)
            .ok()
            .with_context(|| format!("the payload of Secret {name} is not a dockerconfigjson"))?;
        for (registry, login) in &auths {
            let auth = STANDARD.encode(format!("{}:{}", login.username, login.password));
            ensure!(
                auth == login.auth,
                "auth of {registry} in Secret {name} is not user and password"
            );
        }
        Ok(Self {
            object,
            docker_config,
            logins: auths,
        })
    }

    /// What it says for one registry.
    ///
    /// # Errors
    /// Nothing.
    pub fn login(&self, registry: &str) -> anyhow::Result<&RegistryLogin> {
        self.logins
            .get(registry)
            .with_context(|| format!("the Secret has no login for {registry}"))
    }

    /// An annotation.
    pub fn annotation(&self, name: &str) -> Option<&str> {
        self.object.annotations().get(name).map(String::as_str)
    }

    /// What changes with every write, and what never does: resource version and UID.
    pub fn version(&self) -> (String, String) {
        (
            self.object.resource_version().unwrap_or_default(),
            self.object.uid().unwrap_or_default(),
        )
    }
}
