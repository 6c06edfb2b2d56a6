//! The files that a broker is started with: what an operator would write for this Azure and this cluster.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use azure_simulator::Handle;
use serde_json::{Value, json};

use super::{ACCOUNT, ISSUER, Site, TEAM};
use crate::{BROKER_AUDIENCE, CLUSTER, FEDERATION_AUDIENCE, SYNCER_SUBJECT, ServerCertificate};

/// Where the files are.
pub(super) struct Files {
    folder: PathBuf,
}

impl Files {
    /// Arguments that name them.
    pub(super) fn arguments(&self) -> [String; 3] {
        let path = |name| self.folder.join(name).display().to_string();
        [
            format!("--config={}", path("config.yaml")),
            format!("--tls-cert-file={}", path("tls.crt")),
            format!("--tls-key-file={}", path("tls.key")),
        ]
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
            "jwks": {"file": "jwks.json"},
            "callerAudiences": [BROKER_AUDIENCE],
            "subjectAudiences": [FEDERATION_AUDIENCE],
            "syncers": [SYNCER_SUBJECT],
        }],
        "clouds": sites.iter().map(cloud).collect::<Vec<_>>(),
        "identities": sites.iter().map(identity).collect::<Vec<_>>(),
        "grants": sites.iter().map(grant).collect::<Vec<_>>(),
        "egress": {
            "caBundle": "azure-ca.crt",
            "hostOverrides": {"*.login.example": addresses.entra, "*.azurecr.io": addresses.acr},
            "imdsEndpoint": format!("http://{}", addresses.imds),
        },
    });
    let files = [
        ("config.yaml", config.to_string()),
        ("jwks.json", azure.issuer_jwks_json(ISSUER)?),
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
    })
}

fn cloud(site: &Site) -> Value {
    json!({
        "name": site.name,
        "authority": format!("https://{}", site.authority),
        "registrySuffixes": ["azurecr.io"],
    })
}

fn identity(site: &Site) -> Value {
    json!({
        "name": site.name,
        "cloud": site.name,
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
