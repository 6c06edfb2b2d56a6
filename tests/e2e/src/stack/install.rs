//! What a person does before a Pod can run: a namespace, a certificate, two Helm releases.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use controlplane::{ControlPlane, Release};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use super::NAMESPACE;
use super::values::TLS_SECRET;
use crate::ServerCertificate;

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
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    Api::<Namespace>::all(client.clone())
        .patch(NAMESPACE, &params, &Patch::Apply(&namespace))
        .await
        .with_context(|| format!("failed to create namespace {NAMESPACE}"))?;
    let ServerCertificate {
        ca_pem,
        certificate_pem,
        key_pem,
    } = certificate;
    let secret = json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": TLS_SECRET},
        "type": "kubernetes.io/tls",
        "stringData": {"tls.crt": certificate_pem, "tls.key": key_pem, "ca.crt": ca_pem},
    });
    Api::<Secret>::namespaced(client.clone(), NAMESPACE)
        .patch(TLS_SECRET, &params, &Patch::Apply(&secret))
        .await
        .context("failed to create the broker's certificate")?;
    Ok(())
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
