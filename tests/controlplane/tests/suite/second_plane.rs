//! A second control plane: distinct from the first, restarted in part, or not starting at all.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use controlplane::{ControlPlane, ControlPlaneOptions};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, PostParams};
use kube::config::Kubeconfig;
use kube::{Api, Client, Resource as _};

use crate::plane::{AUDIENCE, LIFETIME, config_map, verify};
use crate::waiting::{kept_logs, until};

/// A kind that the plane does not know yet.
const PAINT_DEFINITION: &str = r"
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
";

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

/// Within a few seconds, because the controller manager is restarted after the CRD; by itself it would take
/// up to 40 s.
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
