//! What a person does before a Pod can run: a namespace, a certificate, two Helm releases.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use controlplane::{ControlPlane, Release};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use uuid::Uuid;

use super::values::{AUDIT_SECRET, CLIENT_SECRET, TLS_SECRET};
use super::{NAMESPACE, SYNCER_CERTIFICATE_NAME};
use crate::{ClientAuthority, ClientCertificate, ServerCertificate};

/// Who owns what is written here.
const FIELD_MANAGER: &str = "acrpull-e2e";

/// The folder of a chart of this repository.
pub fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../charts")
        .join(name)
}

/// Writes the namespace of the installation, and the Secret that the broker's listener is served with. An existing
/// cluster may have both from an earlier run.
pub(super) async fn certificate(client: &Client, certificate: &ServerCertificate) -> anyhow::Result<()> {
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    Api::<Namespace>::all(client.clone())
        .patch(NAMESPACE, &params(), &Patch::Apply(&namespace))
        .await
        .with_context(|| format!("failed to create namespace {NAMESPACE}"))?;
    let ServerCertificate {
        ca_pem,
        certificate_pem,
        key_pem,
    } = certificate;
    tls_secret(client, TLS_SECRET, [certificate_pem, key_pem, ca_pem]).await
}

/// Writes the Secret with the syncer's own certificate, and with the CA by which the broker verifies it.
pub(super) async fn client_certificate(client: &Client, clients: &ClientAuthority) -> anyhow::Result<()> {
    let ClientCertificate {
        certificate_pem,
        key_pem,
    } = clients.issue(SYNCER_CERTIFICATE_NAME)?;
    tls_secret(
        client,
        CLIENT_SECRET,
        [&certificate_pem, &key_pem, &clients.ca_pem()],
    )
    .await
}

/// Writes the Secret with the key of the audit's fingerprints: random digits.
pub(super) async fn audit_key(client: &Client) -> anyhow::Result<()> {
    let key = format!("{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": AUDIT_SECRET},
        "stringData": {"key": key},
    });
    apply(client, AUDIT_SECRET, &secret).await
}

/// As cert-manager writes them: certificate, key, CA.
async fn tls_secret(client: &Client, name: &str, pem: [&str; 3]) -> anyhow::Result<()> {
    let [certificate, key, ca] = pem;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate, "tls.key": key, "ca.crt": ca},
    });
    apply(client, name, &secret).await
}

async fn apply(client: &Client, name: &str, secret: &Value) -> anyhow::Result<()> {
    Api::<Secret>::namespaced(client.clone(), NAMESPACE)
        .patch(name, &params(), &Patch::Apply(secret))
        .await
        .with_context(|| format!("failed to create Secret {name}"))?;
    Ok(())
}

fn params() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}

/// Installs the chart of this name, under this name, and waits for nothing: there are no Pods.
pub(super) async fn release(plane: &ControlPlane, name: &str, values: String) -> anyhow::Result<()> {
    let release = Release {
        name: name.to_owned(),
        chart: chart(name),
        namespace: NAMESPACE.to_owned(),
        values,
    };
    plane.helm()?.install(&release).await?;
    Ok(())
}
