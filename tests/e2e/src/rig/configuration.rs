//! The files that a broker is started with: what an operator would write for this Azure and this cluster.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use azure_simulator::{Addresses, Handle};
use serde_json::{Value, json};

use super::{ACCOUNT, ISSUER, OPERATOR, Site, TEAM};
use crate::{BROKER_AUDIENCE, CLUSTER, FEDERATION_AUDIENCE, SYNCER_SUBJECT, ServerCertificate};

/// The brokers' configuration.
const CONFIG: &str = "config.yaml";
/// The cluster's keys.
const JWKS: &str = "jwks.json";

/// Where the files are.
pub(super) struct Files {
    folder: PathBuf,
    /// Name of the configuration in it.
    config: String,
}

impl Files {
    /// Arguments that name them.
    pub(super) fn arguments(&self) -> [String; 3] {
        let path = |name: &str| self.folder.join(name).display().to_string();
        [
            format!("--config={}", path(&self.config)),
            format!("--tls-cert-file={}", path("tls.crt")),
            format!("--tls-key-file={}", path("tls.key")),
        ]
    }

    /// The same with another configuration, for the broker of this name.
    pub(super) fn changed(&self, broker: &str, change: impl FnOnce(&mut Value)) -> anyhow::Result<Self> {
        let text = std::fs::read(self.folder.join(&self.config)).context("the configuration")?;
        let mut configuration = serde_json::from_slice(&text)?;
        change(&mut configuration);
        let config = format!("config-{broker}.yaml");
        std::fs::write(self.folder.join(&config), configuration.to_string())
            .with_context(|| format!("failed to write {config}"))?;
        Ok(Self {
            folder: self.folder.clone(),
            config,
        })
    }

    /// Replaces the cluster's keys at once, as a volume does.
    pub(super) fn replace_keys(&self, jwks: &str) -> anyhow::Result<()> {
        let next = self.folder.join("jwks.json.next");
        std::fs::write(&next, jwks).context("failed to write the cluster's keys")?;
        std::fs::rename(next, self.folder.join(JWKS)).context("failed to replace the cluster's keys")
    }

    /// The CA of the brokers' certificate.
    pub(super) fn ca(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }
}

pub(super) fn write(
    folder: &Path,
    azure: &Handle,
    sites: &[Site],
    certificate: &ServerCertificate,
) -> anyhow::Result<Files> {
    let addresses = azure.addresses();
    // JSON is YAML.
    let config = json!({
        "apiVersion": "config.acrpull.dev/v1alpha1",
        "kind": "BrokerConfiguration",
        "clusters": [{
            "name": CLUSTER,
            "issuer": ISSUER,
            "jwks": {"file": JWKS},
            "callerAudiences": [BROKER_AUDIENCE],
            "subjectAudiences": [FEDERATION_AUDIENCE],
            "syncers": [SYNCER_SUBJECT],
            "operators": [format!("system:serviceaccount:{}:{}", OPERATOR.0, OPERATOR.1)],
        }],
        "clouds": sites.iter().filter(|site| !site.is_in_built_in_cloud()).map(cloud).collect::<Vec<_>>(),
        "identities": sites.iter().map(identity).collect::<Vec<_>>(),
        "grants": sites.iter().map(grant).collect::<Vec<_>>(),
        "egress": {
            "caBundle": "azure-ca.crt",
            "hostOverrides": host_overrides(sites, addresses),
            "imdsEndpoint": format!("http://{}", addresses.imds),
        },
    });
    let files = [
        (CONFIG, config.to_string()),
        (JWKS, azure.issuer_jwks_json(ISSUER)?),
        ("azure-ca.crt", azure.ca_pem().to_owned()),
        ("ca.crt", certificate.ca_pem.clone()),
        ("tls.crt", certificate.certificate_pem.clone()),
        ("tls.key", certificate.key_pem.clone()),
    ];
    for (name, content) in files {
        std::fs::write(folder.join(name), content).with_context(|| format!("failed to write {name}"))?;
    }
    Ok(Files {
        folder: folder.to_owned(),
        config: CONFIG.to_owned(),
    })
}

fn cloud(site: &Site) -> Value {
    json!({
        "name": site.name,
        "authority": format!("https://{}", site.authority),
        "registrySuffixes": [site.registry_domain()],
        "registryAudience": site.audience,
    })
}

fn host_overrides(sites: &[Site], addresses: Addresses) -> BTreeMap<String, SocketAddr> {
    let of_site = |site: &Site| {
        [
            (site.authority.clone(), addresses.entra),
            (format!("*.{}", site.registry_domain()), addresses.acr),
        ]
    };
    sites.iter().flat_map(of_site).collect()
}

fn identity(site: &Site) -> Value {
    json!({
        "name": site.name,
        "cloud": site.cloud,
        "tenant": site.tenant,
        "clientId": site.identity_client_id,
        "resourceId": site.identity_resource_id,
        "source": "imds",
    })
}

fn grant(site: &Site) -> Value {
    json!({
        "name": site.name,
        "clusters": [CLUSTER],
        "namespaces": [TEAM],
        "serviceAccounts": [ACCOUNT],
        "identity": site.name,
        "registries": [site.registry],
        "repositories": ["team/*"],
        "registryWide": true,
    })
}
