//! A control plane as the product's tests use it: tokens, rights, garbage collection, helm.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use controlplane::{ControlPlane, Release};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, Resource as _};
use serde_json::Value;

use crate::leftovers::Up;
use crate::waiting::until;

pub(crate) const AUDIENCE: &str = "api://AzureCRTokenExchange";
pub(crate) const LIFETIME: Duration = Duration::from_mins(10);

/// The claims of a token that these keys and this issuer stand behind.
pub(crate) fn verify(token: &str, jwks: &str, issuer: &str) -> anyhow::Result<Value> {
    let keys: JwkSet = serde_json::from_str(jwks)?;
    let key_id = jsonwebtoken::decode_header(token)?
        .kid
        .context("the token names no key")?;
    let key = keys.find(&key_id).context("the token's key is not published")?;
    let mut validation = Validation::new(Algorithm::RS256);
    validation.set_audience(&[AUDIENCE]);
    validation.set_issuer(&[issuer]);
    Ok(jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(key)?, &validation)?.claims)
}

pub(crate) fn config_map(name: &str, owner: Option<OwnerReference>) -> ConfigMap {
    let owners = owner.map(|owner| vec![owner]);
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(name.to_owned()),
            owner_references: owners,
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    }
}

#[tokio::test]
async fn token_of_a_service_account_verifies_with_the_published_keys() -> anyhow::Result<()> {
    let plane = ControlPlane::shared().await?;
    let namespace = plane.namespace("token").await?;
    let token = plane
        .service_account_token(namespace.name(), "default", &[AUDIENCE], LIFETIME)
        .await?;
    let claims = verify(&token, plane.jwks(), plane.issuer())?;
    let subject = format!("system:serviceaccount:{}:default", namespace.name());
    assert_eq!(claims.get("sub").and_then(Value::as_str), Some(subject.as_str()));
    let error = plane
        .service_account_token(namespace.name(), "nobody", &[AUDIENCE], LIFETIME)
        .await;
    assert!(
        error.is_err(),
        "a ServiceAccount that does not exist has no token"
    );
    Ok(())
}

#[tokio::test]
async fn service_account_without_a_role_may_not_read_secrets() -> anyhow::Result<()> {
    let plane = ControlPlane::shared().await?;
    let namespace = plane.namespace("rights").await?;
    let client = plane
        .client_for_service_account(namespace.name(), "default")
        .await?;
    let secrets: Api<Secret> = Api::namespaced(client, namespace.name());
    match secrets.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 403, "{status:?}"),
        other => anyhow::bail!("it was not forbidden: {other:?}"),
    }
    Ok(())
}

#[tokio::test]
async fn kubeconfig_for_a_token_file_follows_the_file() -> anyhow::Result<()> {
    let plane = ControlPlane::shared().await?;
    let namespace = plane.namespace("file").await?;
    let file = plane.directory().join(format!("{}-token", namespace.name()));
    std::fs::write(
        &file,
        plane
            .service_account_token(namespace.name(), "default", &[], LIFETIME)
            .await?,
    )?;
    let kubeconfig = plane.kubeconfig_for_token_file(&file)?;
    let whoami = ["auth", "whoami", "-o", "jsonpath={.status.userInfo.username}"];
    let kubeconfig_flag = format!("--kubeconfig={}", kubeconfig.display());
    let who = plane
        .kubectl(&[&whoami[..], &[&kubeconfig_flag]].concat())
        .await?;
    assert_eq!(who, format!("system:serviceaccount:{}:default", namespace.name()));
    std::fs::write(&file, "expired")?;
    let error = plane
        .kubectl(&[&whoami[..], &[&kubeconfig_flag]].concat())
        .await
        .expect_err("it must be refused");
    assert!(format!("{error:#}").contains("Unauthorized"), "{error:#}");
    Ok(())
}

#[tokio::test]
async fn object_whose_owner_is_deleted_is_collected() -> anyhow::Result<()> {
    let plane = ControlPlane::shared().await?;
    let namespace = plane.namespace("garbage").await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client()?, namespace.name());
    let owner = maps
        .create(&PostParams::default(), &config_map("owner", None))
        .await?;
    let reference = owner.controller_owner_ref(&()).context("the owner has no UID")?;
    maps.create(&PostParams::default(), &config_map("owned", Some(reference)))
        .await?;
    maps.create(&PostParams::default(), &config_map("free", None))
        .await?;
    maps.delete("owner", &DeleteParams::default()).await?;
    until("the owned object is gone", async || {
        matches!(maps.get_opt("owned").await, Ok(None))
    })
    .await?;
    ensure!(
        maps.get_opt("free").await?.is_some(),
        "an object without an owner must stay"
    );
    Ok(())
}

#[tokio::test]
async fn namespaces_are_distinct_and_deleted_when_dropped() -> anyhow::Result<()> {
    let plane = ControlPlane::shared().await?;
    let (one, other) = (plane.namespace("same").await?, plane.namespace("same").await?);
    assert_ne!(one.name(), other.name());
    let accounts: Api<ServiceAccount> = Api::namespaced(plane.client()?, one.name());
    ensure!(accounts.get_opt("default").await?.is_some());
    let namespaces: Api<Namespace> = Api::all(plane.client()?);
    let name = one.name().to_owned();
    drop(one);
    until("the namespace is gone", async || {
        matches!(namespaces.get_opt(&name).await, Ok(None))
    })
    .await
}

#[tokio::test]
async fn helm_lints_renders_installs_and_uninstalls_a_chart() -> anyhow::Result<()> {
    let plane = ControlPlane::shared().await?;
    let namespace = plane.namespace("helm").await?;
    let folder = tempfile::tempdir()?;
    let chart = write_chart(folder.path())?;
    let helm = plane.helm()?;
    helm.lint(&chart, "colour: blue").await?;
    let error = helm
        .lint(&chart, "colour: [")
        .await
        .expect_err("broken values must fail");
    assert!(format!("{error:#}").contains("yaml"), "{error:#}");

    let release = Release {
        name: "paint".to_owned(),
        chart,
        namespace: namespace.name().to_owned(),
        values: "colour: blue".to_owned(),
    };
    assert!(helm.template(&release, &[]).await?.contains("colour: \"blue\""));
    helm.install(&release).await?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client()?, namespace.name());
    let data = maps
        .get("paint")
        .await?
        .data
        .context("the chart's object is empty")?;
    assert_eq!(data.get("colour").map(String::as_str), Some("blue"));
    helm.install(&Release {
        values: "colour: red".to_owned(),
        ..release
    })
    .await?;
    let data = maps
        .get("paint")
        .await?
        .data
        .context("the chart's object is empty")?;
    assert_eq!(data.get("colour").map(String::as_str), Some("red"));
    helm.uninstall("paint", namespace.name()).await?;
    assert!(maps.get_opt("paint").await?.is_none());
    Ok(())
}

fn write_chart(folder: &Path) -> anyhow::Result<std::path::PathBuf> {
    let chart = folder.join("paint");
    std::fs::create_dir_all(chart.join("templates"))?;
    let about = "{apiVersion: v2, name: paint, version: 0.1.0, icon: 'https://paint.example', kubeVersion: '>=1.30.0-0'}";
    std::fs::write(chart.join("Chart.yaml"), about)?;
    std::fs::write(chart.join("values.yaml"), "colour: none\n")?;
    let template = "apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  colour: {{ .Values.colour | quote }}
";
    std::fs::write(chart.join("templates/colour.yaml"), template)?;
    Ok(chart)
}

#[tokio::test]
async fn existing_cluster_is_used_when_the_environment_says_so() -> anyhow::Result<()> {
    let plane = ControlPlane::shared().await?;
    let up = Up::start(&[
        ("KUBECONFIG", plane.kubeconfig_path()),
        ("ACRPULL_E2E_CLUSTER", Path::new("existing")),
    ])?;
    let lines = up.lines.join("\n");
    assert!(
        lines.contains(&format!("API server: {}\n", plane.api_server_url())),
        "{lines}"
    );
    assert!(
        lines.contains(&format!("issuer: {}\n", plane.issuer())),
        "{lines}"
    );
    assert_ne!(up.kubeconfig, plane.kubeconfig_path());
    let kubeconfig = Kubeconfig::read_from(&up.kubeconfig)?;
    let client = Client::try_from(kubeconfig)?;
    ensure!(!client.apiserver_version().await?.git_version.is_empty());
    Ok(())
}
