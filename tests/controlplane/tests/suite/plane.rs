//! A control plane as the product's tests use it: tokens, rights, garbage collection, helm, a second plane.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use controlplane::{ControlPlane, ControlPlaneOptions, Release};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, ObjectMeta, PostParams,
};
use kube::config::Kubeconfig;
use kube::{Api, Client, Resource as _};
use serde_json::Value;

use crate::leftovers::Up;
use crate::waiting::{kept_logs, until};

const AUDIENCE: &str = "api://AzureCRTokenExchange";
const LIFETIME: Duration = Duration::from_mins(10);

/// A kind that the plane does not know yet.
const PAINT_DEFINITION: &str = r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: paints.test.example
spec:
  group: test.example
  scope: Namespaced
  names: {kind: Paint, plural: paints}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object}}}
"#;

fn verify(token: &str, jwks: &str, issuer: &str) -> anyhow::Result<Value> {
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

fn config_map(name: &str, owner: Option<OwnerReference>) -> ConfigMap {
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
    let about = "apiVersion: v2\nname: paint\nversion: 0.1.0\nicon: https://example.invalid/icon.png\nkubeVersion: '>=1.30.0-0'\n";
    std::fs::write(chart.join("Chart.yaml"), about)?;
    std::fs::write(chart.join("values.yaml"), "colour: none\n")?;
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}\ndata:\n  colour: {{ .Values.colour | quote }}\n";
    std::fs::write(chart.join("templates/colour.yaml"), template)?;
    Ok(chart)
}

/// One test for all that needs a second plane: it costs some seconds.
#[tokio::test]
async fn second_plane_is_distinct_and_survives_a_restart_of_its_api_server() -> anyhow::Result<()> {
    let first = ControlPlane::shared().await?;
    let issuer = "https://issuer.second.example";
    let second = ControlPlane::start(ControlPlaneOptions {
        name: "second".to_owned(),
        issuer: issuer.to_owned(),
        always_own: true,
    })
    .await?;

    let token = second
        .service_account_token("default", "default", &[AUDIENCE], LIFETIME)
        .await?;
    verify(&token, second.jwks(), issuer)?;
    assert!(
        verify(&token, first.jwks(), issuer).is_err(),
        "the other plane's keys must not verify it"
    );

    // The first plane's CA does not vouch for the second's API server, and its administrator is nobody there.
    let mut kubeconfig = Kubeconfig::read_from(first.kubeconfig_path())?;
    let cluster = kubeconfig
        .clusters
        .iter_mut()
        .find_map(|named| named.cluster.as_mut())
        .context("no cluster")?;
    cluster.server = Some(second.api_server_url().to_owned());
    let mut trusting = kubeconfig.clone();
    let error = Client::try_from(kubeconfig)?
        .apiserver_version()
        .await
        .expect_err("the CA must be refused");
    assert!(format!("{:#}", anyhow::Error::new(error)).contains("certificate"));
    let cluster = trusting
        .clusters
        .iter_mut()
        .find_map(|named| named.cluster.as_mut())
        .context("no cluster")?;
    cluster.certificate_authority_data = None;
    cluster.certificate_authority = Some(second.ca_pem_path().display().to_string());
    let namespaces: Api<Namespace> = Api::all(Client::try_from(trusting)?);
    match namespaces.list(&ListParams::default()).await {
        Err(kube::Error::Api(status)) => assert_eq!(status.code, 401, "{status:?}"),
        other => anyhow::bail!("the token was not refused: {other:?}"),
    }

    let maps: Api<ConfigMap> = Api::namespaced(second.client()?, "default");
    maps.create(&PostParams::default(), &config_map("kept", None))
        .await?;
    let pids = second.pids();
    second.restart_api_server().await?;
    assert_ne!(second.pids(), pids);
    ensure!(maps.get_opt("kept").await?.is_some(), "the objects must survive");
    collects_what_an_object_of_a_new_kind_owned(&second).await?;
    let still_fine = tokio::time::timeout(Duration::from_millis(300), second.failed()).await;
    ensure!(
        still_fine.is_err(),
        "a restart on purpose is no failure: {still_fine:?}"
    );
    second.stop().await;
    Ok(())
}

/// Within a few seconds, because the controller manager is restarted after the CRD; by itself it would take up to 40 s.
async fn collects_what_an_object_of_a_new_kind_owned(plane: &ControlPlane) -> anyhow::Result<()> {
    let definition = plane.directory().join("paint-crd.yaml");
    std::fs::write(&definition, PAINT_DEFINITION)?;
    plane
        .kubectl(&["apply", "--filename", &definition.display().to_string()])
        .await?;
    plane
        .kubectl(&["wait", "--for=condition=established", "crd/paints.test.example"])
        .await?;
    plane.restart_controller_manager().await?;
    // Longer than the garbage collector takes to start, much shorter than its search for new kinds.
    tokio::time::sleep(Duration::from_secs(3)).await;

    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("test.example", "v1", "Paint"));
    let paints: Api<DynamicObject> = Api::namespaced_with(plane.client()?, "default", &kind);
    let paint = paints
        .create(&PostParams::default(), &DynamicObject::new("blue", &kind))
        .await?;
    let reference = paint
        .controller_owner_ref(&kind)
        .context("the owner has no UID")?;
    let maps: Api<ConfigMap> = Api::namespaced(plane.client()?, "default");
    maps.create(&PostParams::default(), &config_map("painted", Some(reference)))
        .await?;
    paints.delete("blue", &DeleteParams::default()).await?;
    let gone = until("the owned object is gone", async || {
        matches!(maps.get_opt("painted").await, Ok(None))
    });
    tokio::time::timeout(Duration::from_secs(10), gone)
        .await
        .context("it was not gone within 10 s")?
}

#[tokio::test]
async fn start_process_that_dies_is_an_error_with_its_last_words() -> anyhow::Result<()> {
    let name = "broken";
    let options = ControlPlaneOptions {
        name: name.to_owned(),
        issuer: "http://[".to_owned(),
        always_own: true,
    };
    let Err(error) = ControlPlane::start(options).await else {
        anyhow::bail!("it must not start")
    };
    let error = format!("{error:#}");
    assert!(
        error.contains("kube-apiserver ended unexpectedly (exit status: 1)"),
        "{error}"
    );
    assert!(error.contains("service-account-issuer"), "{error}");
    let kept = kept_logs(name, std::process::id());
    assert!(std::fs::read_to_string(kept.join("kube-apiserver.log"))?.contains("service-account-issuer"));
    std::fs::remove_dir_all(kept)?;
    Ok(())
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
