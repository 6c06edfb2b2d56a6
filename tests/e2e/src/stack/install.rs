//! What a person does before a Pod can run: a namespace, a certificate, two Helm releases.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use controlplane::{ControlPlane, Release};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::NAMESPACE;
use super::values::TLS_SECRET;
use crate::ServerCertificate;

/// The folder of a chart of this repository.
pub fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../charts")
        .join(name)
}

/// Creates the namespace of the installation, and the Secret that the broker's listener is served with.
pub(super) async fn certificate(client: &Client, certificate: &ServerCertificate) -> anyhow::Result<()> {
    let namespace = Namespace {
        metadata: ObjectMeta {
            name: Some(NAMESPACE.to_owned()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    };
    let created = Api::<Namespace>::all(client.clone())
        .create(&PostParams::default(), &namespace)
        .await;
    created.with_context(|| format!("failed to create namespace {NAMESPACE}"))?;
    let files = [
        ("tls.crt", &certificate.certificate_pem),
        ("tls.key", &certificate.key_pem),
        ("ca.crt", &certificate.ca_pem),
    ];
    let secret = Secret {
        metadata: ObjectMeta {
            name: Some(TLS_SECRET.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some("kubernetes.io/tls".to_owned()),
        string_data: Some(
            files
                .into_iter()
                .map(|(key, pem)| (key.to_owned(), pem.clone()))
                .collect(),
        ),
        ..Secret::default()
    };
    let created = Api::<Secret>::namespaced(client.clone(), NAMESPACE)
        .create(&PostParams::default(), &secret)
        .await;
    created.context("failed to create the broker's certificate")?;
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
