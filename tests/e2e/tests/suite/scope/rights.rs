//! A syncer whose Role lacks a right: it says which, and goes on by itself once it has it.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{NAMESPACE, Team, binding, wait_for};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{PolicyRule, Role};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use syncer::binding::ApiVersion;
use syncer::crd::AcrPullBinding;

use super::narrow::{ACCOUNT, with_narrow_syncer};
use super::{PATIENCE, SCOPE, bound, refusal};
use crate::shared::{EITHER_API, alone};
use crate::side::Side;

/// Denials are tried again within a minute of the first.
const RECOVERED: Duration = Duration::from_secs(65);
const ROLE: &str = "syncer-without";

#[test]
fn b18_right_that_the_role_lacks_is_named_and_its_return_is_noticed() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        let older = Side::new(&team, ApiVersion::V1Beta1);
        for account in ["web", "later"] {
            team.federated_account(account).await?;
        }
        let values = json!({"namespaces": [team.namespace()]});
        with_narrow_syncer(stack, ROLE, &values, async |_syncer| {
            let client = stack
                .plane()
                .client_for_service_account(NAMESPACE, ACCOUNT)
                .await?;
            let all = rules(&team).await?;

            set_rules(&team, &without(&all, "serviceaccounts", "patch")).await?;
            in_effect(&client, &team, patch_is_refused).await?;
            let created = team.create(&bound("web", &team)).await?;
            let created_older = older.create("older", &older.spec("web", SCOPE)).await?;
            let refused = team
                .refused("web", "ServiceAccountLinked", "KubernetesDenied")
                .await?;
            assert!(refused.message.contains("the syncer's role does not allow it"));
            team.refused("web", "Ready", "KubernetesDenied").await?;
            warned(&team, "web", &refused.message).await?;
            older
                .refused("older", "ServiceAccountLinked", "KubernetesDenied")
                .await?;
            older.refused("older", "Ready", "KubernetesDenied").await?;
            older.condition("older", "CredentialIssued", "True").await?;
            warned(&team, "older", "the syncer's role does not allow it").await?;
            set_rules(&team, &all).await?;
            recovers(&team, "web", created.metadata.generation).await?;
            let links = ["acr-pull-web", "older-msi-acrpull-secret"];
            wait_for("both are linked", RECOVERED, async || {
                Ok(team.links("web").await? == links)
            })
            .await?;
            older.ready("older").await?;
            let (found, _status) = older.get("older").await?;
            assert_eq!(found.metadata.generation, created_older.metadata.generation);

            set_rules(&team, &without(&all, "serviceaccounts/token", "create")).await?;
            in_effect(&client, &team, token_is_refused).await?;
            let later = binding::workload_identity("later", "later", team.registry(), SCOPE);
            let created = team.create(&later).await?;
            let refused = team
                .refused("later", "CredentialIssued", "KubernetesDenied")
                .await?;
            assert_eq!(
                refused.message,
                "cannot request a token of ServiceAccount later: the syncer's role does not allow it"
            );
            warned(&team, "later", &refused.message).await?;
            set_rules(&team, &all).await?;
            recovers(&team, "later", created.metadata.generation).await
        })
        .await
    })
}

async fn rules(team: &Team<'_>) -> anyhow::Result<Vec<PolicyRule>> {
    let role = team.api::<Role>().get(ROLE).await?;
    role.rules.context("the Role has no rules")
}

async fn set_rules(team: &Team<'_>, rules: &[PolicyRule]) -> anyhow::Result<()> {
    let rules = Patch::Merge(json!({"rules": rules}));
    team.api::<Role>()
        .patch(ROLE, &PatchParams::default(), &rules)
        .await?;
    Ok(())
}

fn without(rules: &[PolicyRule], resource: &str, verb: &str) -> Vec<PolicyRule> {
    let mut rules = rules.to_vec();
    for rule in &mut rules {
        if rule.resources.iter().flatten().any(|one| one == resource) {
            rule.verbs.retain(|one| one != verb);
        }
    }
    // A rule has a verb at least.
    rules.retain(|rule| !rule.verbs.is_empty());
    rules
}

/// Waits until the API server refuses the syncer what its Role lacks.
async fn in_effect(
    client: &Client,
    team: &Team<'_>,
    is_refused: impl AsyncFn(&Api<ServiceAccount>) -> bool,
) -> anyhow::Result<()> {
    let accounts = Api::namespaced(client.clone(), team.namespace());
    wait_for("the Role is in effect", PATIENCE, async || {
        Ok(is_refused(&accounts).await)
    })
    .await
}

async fn patch_is_refused(accounts: &Api<ServiceAccount>) -> bool {
    let nothing = Patch::Merge(json!({}));
    let tried = accounts.patch("web", &PatchParams::default(), &nothing).await;
    refusal(tried) == Some(403)
}

async fn token_is_refused(accounts: &Api<ServiceAccount>) -> bool {
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let tried = accounts
        .create_token_request("later", &params, &TokenRequest::default())
        .await;
    refusal(tried) == Some(403)
}

/// An event of the binding says it.
async fn warned(team: &Team<'_>, binding: &str, words: &str) -> anyhow::Result<()> {
    wait_for("an event says it", PATIENCE, async || {
        let events = team.api::<Event>().list(&ListParams::default()).await?;
        Ok(events.items.iter().any(|event| {
            let regarding = event.regarding.as_ref();
            event.reason.as_deref() == Some("KubernetesDenied")
                && event.type_.as_deref() == Some("Warning")
                && event.note.as_deref().is_some_and(|note| note.contains(words))
                && regarding.is_some_and(|regarding| regarding.name.as_deref() == Some(binding))
        }))
    })
    .await
}

/// Waits until the binding is ready, although nobody wrote it.
async fn recovers(team: &Team<'_>, binding: &str, generation: Option<i64>) -> anyhow::Result<()> {
    wait_for("the binding is Ready", RECOVERED, async || {
        let found = team.api::<AcrPullBinding>().get(binding).await?;
        Ok(e2e::condition(&found, "Ready").is_some_and(|ready| ready.status == "True"))
    })
    .await?;
    let ready = team.api::<AcrPullBinding>().get(binding).await?;
    assert_eq!(ready.metadata.generation, generation, "nobody wrote the binding");
    assert!(ready.metadata.annotations.is_none(), "somebody has touched it");
    Ok(())
}
