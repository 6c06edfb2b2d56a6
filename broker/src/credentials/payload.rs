//! What a caller receives: a registry token, and the `.dockerconfigjson` around it.

use bytes::Bytes;
use proto::{
    Fingerprint,
    types::{RegistryHost, ScopeSet},
};
use runtime::Secret;

use crate::docker_config;

/// A registry token and its rendered `.dockerconfigjson`. Cheap to clone; wiped when the last clone is gone.
#[derive(Clone)]
pub struct Payload {
    docker_config: Bytes,
    token: Secret,
    fingerprint: Fingerprint,
    granted: ScopeSet,
}

impl Payload {
    pub(super) fn new(registry: &RegistryHost, token: Secret, granted: ScopeSet) -> Self {
        let docker_config = docker_config::render(registry, &token);
        Self {
            fingerprint: Fingerprint::of(&docker_config),
            docker_config,
            token,
            granted,
        }
    }

    /// The bytes of `.dockerconfigjson`.
    pub fn docker_config_json(&self) -> Bytes {
        self.docker_config.clone()
    }

    /// The token alone.
    pub fn token(&self) -> &Secret {
        &self.token
    }

    /// What tells it from others: of the rendered bytes, whichever form a caller asked for.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    /// What the registry granted of the scope that was asked for; empty for a token without a scope.
    pub fn granted(&self) -> &ScopeSet {
        &self.granted
    }

    pub(super) fn bytes(&self) -> usize {
        self.docker_config.len() + self.token.expose().len()
    }
}
