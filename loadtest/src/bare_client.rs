//! The baseline of bindings: a bare Kubernetes client that makes the same writes for as many bindings, as the same
//! `ServiceAccount` under the same admission policies, with as many workers, and asks no Azure. What it needs is what the API
//! server and the machine cost; the rest is syncer, broker and Azure.

use anyhow::Context as _;
use e2e::{Stack, Team};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use syncer::binding::ApiVersion;
use syncer::crd::AcrPullBinding;
use syncer::links::RECORD_ANNOTATION;
use syncer::pull_secret::{self, BINDING_LABEL, FIELD_MANAGER};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::api_calls::ApiCalls;
use crate::scene::{self, CREATORS};
use crate::timeline::{Milestone, Timeline};
use crate::tokens::federation_token;

/// Bindings that are worked on at a time: the syncer's `--workers`.
const WORKERS: usize = 16;

/// Life of the requested tokens, in seconds: the syncer's.
const TOKEN_SECONDS: i64 = 600;

/// Length of a registry's token, in characters: about what Azure issues.
const TOKEN_CHARS: usize = 1_200;

/// The writes, all by one client.
struct BareClient {
    accounts: Api<ServiceAccount>,
    secrets: Api<Secret>,
    bindings: Api<AcrPullBinding>,
    workers: Semaphore,
}

/// Creates so many bindings and does for each what the syncer does, which must be stopped.
///
/// # Errors
/// The API server refuses.
pub(crate) async fn run(
    stack: &Stack,
    team: &Team<'_>,
    count: usize,
) -> anyhow::Result<(Timeline, ApiCalls)> {
    let client = stack
        .plane()
        .client_for_service_account(e2e::NAMESPACE, "acrpull-syncer")
        .await?;
    let bare = BareClient::new(&client, team.namespace());
    let creators = Semaphore::new(CREATORS);
    let start = Instant::now();
    let one = async |number: usize| {
        let binding = {
            let _creator = creators.acquire().await?;
            team.create(&scene::binding(number)).await?
        };
        let created = start.elapsed();
        let _worker = bare.workers.acquire().await?;
        let at = bare
            .serve(&binding, number)
            .await?
            .map(|at| at.saturating_duration_since(start));
        anyhow::Ok((number, created, at))
    };
    let done: Vec<_> = stream::iter(0..count)
        .map(one)
        .buffer_unordered(count)
        .try_collect()
        .await?;
    let mut timeline = Timeline::new(count);
    for (number, created, [linked, secret, ready]) in done {
        timeline.mark(number, Milestone::Created, created);
        timeline.mark(number, Milestone::Linked, linked);
        timeline.mark(number, Milestone::Secret, secret);
        timeline.mark(number, Milestone::Ready, ready);
    }
    let each = u64::try_from(count)?;
    let calls = ApiCalls::of(&[
        ("patch", "serviceaccounts", each),
        ("create", "serviceaccounts/token", each),
        ("patch", "secrets", each),
        ("patch", "acrpullbindings/status", each),
    ]);
    Ok((timeline, calls))
}

impl BareClient {
    fn new(client: &Client, namespace: &str) -> Self {
        Self {
            accounts: Api::namespaced(client.clone(), namespace),
            secrets: Api::namespaced(client.clone(), namespace),
            bindings: Api::namespaced(client.clone(), namespace),
            workers: Semaphore::new(WORKERS),
        }
    }

    /// The four writes, and when the link, the Secret and the status were there.
    async fn serve(&self, binding: &AcrPullBinding, number: usize) -> anyhow::Result<[Instant; 3]> {
        let name = binding.name_any();
        let params = PatchParams {
            field_manager: Some(FIELD_MANAGER.to_owned()),
            ..PatchParams::default()
        };
        let linked = Patch::Merge(link(&pull_secret::name_for(ApiVersion::V1Beta2, &name)));
        self.accounts
            .patch(&name, &params, &linked)
            .await
            .context("the link")?;
        let linked_at = Instant::now();

        federation_token(&self.accounts, &scene::identity_account(number), TOKEN_SECONDS).await?;
        let secret = Patch::Apply(secret(binding));
        let params = PatchParams::apply(FIELD_MANAGER);
        self.secrets
            .patch_metadata(
                &pull_secret::name_for(ApiVersion::V1Beta2, &name),
                &params,
                &secret,
            )
            .await
            .context("the Secret")?;
        let secret_at = Instant::now();

        let status = Patch::Merge(status(binding));
        self.bindings
            .patch_status(&name, &PatchParams::default(), &status)
            .await
            .context("the status")?;
        Ok([linked_at, secret_at, Instant::now()])
    }
}

fn link(secret_name: &str) -> Value {
    json!({
        "metadata": {"annotations": {RECORD_ANNOTATION: secret_name}},
        "imagePullSecrets": [{"name": secret_name}],
    })
}

fn secret(binding: &AcrPullBinding) -> Value {
    let name = binding.name_any();
    let token = "t".repeat(TOKEN_CHARS);
    let server = &binding.spec.acr.server;
    let payload = json!({"auths": {server: {"username": "bench", "password": token, "auth": token}}});
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/dockerconfigjson",
        "metadata": {
            "name": pull_secret::name_for(ApiVersion::V1Beta2, &name),
            "labels": {BINDING_LABEL: name},
            "ownerReferences": [{
                "apiVersion": "acrpull.microsoft.com/v1beta2",
                "kind": "AcrPullBinding",
                "name": name,
                "uid": binding.uid(),
                "controller": true,
            }],
        },
        "stringData": {".dockerconfigjson": payload.to_string()},
    })
}

fn status(binding: &AcrPullBinding) -> Value {
    let condition = |kind: &str| {
        json!({
            "type": kind,
            "status": "True",
            "reason": "Bench",
            "message": "written by the baseline",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "observedGeneration": binding.metadata.generation,
        })
    };
    let kinds = [
        "Ready",
        "CredentialIssued",
        "SecretSynced",
        "ServiceAccountLinked",
    ];
    json!({"status": {
        "observedGeneration": binding.metadata.generation,
        "pullSecretName": pull_secret::name_for(ApiVersion::V1Beta2, &binding.name_any()),
        "conditions": kinds.map(condition),
    }})
}
