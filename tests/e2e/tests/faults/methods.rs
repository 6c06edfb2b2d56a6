//! Every method of the broker, by gRPC through the client that ships and by HTTP as anybody would call it.

use anyhow::{Context as _, ensure};
use client::{BrokerClient, ClientOptions};
use e2e::{Broker, Rig, Site};
use proto::{
    Reason,
    v1::{
        CacheState, ExplainRequest, GetAccessTokenRequest, GetDockerConfigRequest, InvalidateRequest,
        ListClustersRequest, TokenKind, Verdict,
    },
};
use serde_json::{Value, json};

struct Scene {
    rig: Rig,
    broker: Broker,
    syncer: BrokerClient,
    operator: BrokerClient,
}

impl Scene {
    async fn start(name: &str) -> anyhow::Result<Self> {
        let rig = Rig::start(name, ["site"]).await?;
        let broker = rig.broker("broker").await?;
        let client = |token_file| {
            BrokerClient::new(&ClientOptions {
                address: format!("https://{}", broker.address()),
                ca_file: Some(rig.ca_file()),
                client_certificate: None,
                token_file,
            })
        };
        Ok(Self {
            syncer: client(rig.token_file()?)?,
            operator: client(rig.operator_token_file()?)?,
            broker,
            rig,
        })
    }

    fn site(&self) -> anyhow::Result<&Site> {
        self.rig.site("site")
    }

    fn azure_calls(&self) -> usize {
        self.rig.azure().calls().count()
    }
}

/// The same question for the token alone.
fn for_the_token(request: GetDockerConfigRequest) -> anyhow::Result<GetAccessTokenRequest> {
    use proto::v1::{get_access_token_request, get_docker_config_request::Identity};
    let identity = match request.identity.context("no identity")? {
        Identity::Federated(identity) => get_access_token_request::Identity::Federated(identity),
        Identity::BrokerOwned(identity) => get_access_token_request::Identity::BrokerOwned(identity),
    };
    Ok(GetAccessTokenRequest {
        binding: request.binding,
        service_accounts: request.service_accounts,
        registry: request.registry,
        scopes: request.scopes,
        cloud: request.cloud,
        identity: Some(identity),
        ..GetAccessTokenRequest::default()
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_for_a_syncer_are_two_forms_of_one_credential_and_an_explanation() -> anyhow::Result<()> {
    let scene = Scene::start("methods-syncer").await?;
    let site = scene.site()?;
    let request = scene.rig.federated(site);
    let explain = || {
        scene.syncer.explain(ExplainRequest {
            request: Some(request.clone()),
            cluster: String::new(),
        })
    };
    let before = explain().await?;
    ensure!(before.verdict() == Verdict::Passed, "{before:?}");
    ensure!(
        before
            .cache_levels
            .iter()
            .all(|level| level.state() == CacheState::Absent),
        "{before:?}"
    );
    ensure!(scene.azure_calls() == 0, "an explanation asked Azure");

    let config = scene.syncer.get_docker_config(request.clone()).await?;
    let token = scene
        .syncer
        .get_access_token(for_the_token(request.clone())?)
        .await?;
    ensure!(scene.azure_calls() == 3, "one credential is one call per hop");
    ensure!(token.kind() == TokenKind::Access && token.fingerprint == config.fingerprint);
    let payload: Value = serde_json::from_slice(&config.docker_config_json)?;
    let password = payload.pointer(&format!("/auths/{}/password", site.registry));
    ensure!(
        password.and_then(Value::as_str) == Some(&token.token),
        "another token"
    );
    ensure!(
        scene.rig.is_accepted(site, &config).await?,
        "the registry refuses it"
    );

    let after = explain().await?;
    ensure!(
        after
            .cache_levels
            .iter()
            .all(|level| level.state() == CacheState::Fresh),
        "{after:?}"
    );
    let denied = scene.syncer.list_clusters(ListClustersRequest::default()).await;
    ensure!(denied.is_err_and(|error| error.reason == Reason::CallerNotPermitted));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_for_an_operator_list_clusters_and_drop_what_is_cached() -> anyhow::Result<()> {
    let scene = Scene::start("methods-operator").await?;
    let site = scene.site()?;
    let clusters = scene
        .operator
        .list_clusters(ListClustersRequest::default())
        .await?
        .clusters;
    let [cluster] = clusters.as_slice() else {
        anyhow::bail!("{clusters:?}");
    };
    ensure!(cluster.name == e2e::CLUSTER, "{cluster:?}");

    // An operator gets no credential, and is told which grant gives one.
    let owned = site.broker_owned();
    let denied = scene.operator.get_docker_config(owned.clone()).await;
    ensure!(denied.is_err_and(|error| error.reason == Reason::CallerNotPermitted));
    let explained = scene
        .operator
        .explain(ExplainRequest {
            request: Some(owned.clone()),
            cluster: String::new(),
        })
        .await?;
    ensure!(
        explained.steps.iter().any(|step| step.grant == site.name),
        "{explained:?}"
    );

    scene.syncer.get_docker_config(owned.clone()).await?;
    let calls = scene.azure_calls();
    scene.syncer.get_docker_config(owned.clone()).await?;
    ensure!(scene.azure_calls() == calls, "a hit asked Azure");
    let registry = site.registry.clone();
    let invalidate = InvalidateRequest {
        registry,
        ..InvalidateRequest::default()
    };
    let dropped = scene.operator.invalidate(invalidate).await?.entries_dropped;
    ensure!(
        dropped == 2,
        "{dropped} entries: one refresh and one access token"
    );
    scene.syncer.get_docker_config(owned).await?;
    ensure!(scene.azure_calls() == calls + 2, "the Entra token stays");
    let nothing = scene.operator.invalidate(InvalidateRequest::default()).await;
    ensure!(nothing.is_err_and(|error| error.reason == Reason::InvalidRequest));
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn methods_over_http_answer_as_described() -> anyhow::Result<()> {
    let scene = Scene::start("methods-http").await?;
    let site = scene.site()?;
    let ca = reqwest::Certificate::from_pem(&std::fs::read(scene.rig.ca_file())?)?;
    let http = reqwest::Client::builder()
        .tls_certs_only([ca])
        .timeout(std::time::Duration::from_secs(30))
        .build()?;
    let url = |path: &str| format!("https://{}{path}", scene.broker.address());
    let description: Value = http.get(url("/openapi.json")).send().await?.json().await?;
    let syncer = std::fs::read_to_string(scene.rig.token_file()?)?;
    let operator = std::fs::read_to_string(scene.rig.operator_token_file()?)?;
    let request = serde_json::to_value(site.broker_owned())?;
    for (path, bearer, body, member) in [
        ("/v1/docker-config", &syncer, request.clone(), "dockerConfigJson"),
        ("/v1/access-token", &syncer, request.clone(), "token"),
        ("/v1/explain", &syncer, json!({"request": request}), "steps"),
        (
            "/v1/invalidate",
            &operator,
            json!({"all": true}),
            "entriesDropped",
        ),
    ] {
        ensure!(
            description
                .pointer(&format!("/paths/{}/post", path.replace('/', "~1")))
                .is_some(),
            "{path}"
        );
        let post = || http.post(url(path)).json(&body);
        let stranger = post().send().await?;
        ensure!(stranger.status() == 401, "{path}: {}", stranger.status());
        let answer = post().bearer_auth(bearer).send().await?;
        ensure!(answer.status() == 200, "{path}: {}", answer.text().await?);
        ensure!(
            answer
                .headers()
                .get("cache-control")
                .is_some_and(|value| value == "no-store")
        );
        let answer: Value = answer.json().await?;
        ensure!(answer.get(member).is_some(), "{path}: no {member}");
    }
    let clusters = http
        .get(url("/v1/clusters"))
        .bearer_auth(&operator)
        .send()
        .await?;
    let clusters: Value = clusters.json().await?;
    ensure!(
        clusters.pointer("/clusters/0/name") == Some(&json!(e2e::CLUSTER)),
        "{clusters}"
    );
    Ok(())
}
