//! What Kubernetes refuses the syncer, and what the application team sees of it. No test touches the binding to get it
//! going again.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{Team, binding, condition, wait_for};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::core::v1::{ResourceQuota, Secret};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{from_value, json};

use crate::shared::beside_others;

const BINDING: &str = "acrpullbindings.acrpull.microsoft.com/web";
const SCOPE: &str = "repository:team/web:pull";
/// Denials are tried again within a minute of the first.
const PATIENCE: Duration = Duration::from_secs(90);
/// A policy or a quota takes effect within seconds.
const EFFECT: Duration = Duration::from_secs(30);

#[test]
fn b18_quota_that_is_used_up_is_named_and_its_raise_is_noticed() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("denied-quota").await?;
        team.federated_account("web").await?;
        let quotas = team.api::<ResourceQuota>();
        let quota = from_value(json!({
            "metadata": {"name": "no-secrets"}, "spec": {"hard": {"count/secrets": "0"}},
        }))?;
        quotas.create(&PostParams::default(), &quota).await?;
        in_effect(&team, "the quota").await?;

        let created = team
            .create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        let refused = team.refused("web", "SecretSynced", "QuotaExceeded").await?;
        assert_eq!(
            refused.message,
            "cannot write Secret acr-pull-web: ResourceQuota no-secrets of the namespace is used up"
        );
        team.refused("web", "Ready", "QuotaExceeded").await?;
        assert_eq!(
            team.links("web").await?,
            ["acr-pull-web"],
            "the link needs no Secret"
        );
        warned(&team, "QuotaExceeded", "no-secrets").await?;
        let described = stack
            .plane()
            .kubectl(&["-n", team.namespace(), "describe", BINDING])
            .await?;
        assert_eq!(
            described.matches(&refused.message).count(),
            7,
            "in three conditions, in Reconciling, the error, the last failure and the event:\n{described}"
        );

        let raised = Patch::Merge(json!({"spec": {"hard": {"count/secrets": "10"}}}));
        quotas
            .patch("no-secrets", &PatchParams::default(), &raised)
            .await?;
        recovers(&team, created.metadata.generation).await
    })
}

#[test]
fn b18_admission_policy_that_refuses_the_secret_is_named() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("denied-policy").await?;
        team.federated_account("web").await?;
        let client = team.api::<Secret>().into_client();
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        let policy_bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client);
        let name = format!("no-secrets-in-{}", team.namespace());
        let policy = from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace()}},
                    "resourceRules": [{
                        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"],
                    }],
                },
                "validations": [{"expression": "false", "messageExpression": "'holds ' + string(object.data['.dockerconfigjson'])"}],
            },
        }))?;
        let policy_binding = from_value(json!({
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }))?;
        policies.create(&PostParams::default(), &policy).await?;
        policy_bindings
            .create(&PostParams::default(), &policy_binding)
            .await?;
        in_effect(&team, "the policy").await?;

        let created = team
            .create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        let refused = team.refused("web", "SecretSynced", "AdmissionDenied").await?;
        assert_eq!(
            refused.message,
            format!("cannot write Secret acr-pull-web: ValidatingAdmissionPolicy {name} refuses it"),
            "and nothing of what the policy says, which may quote the Secret"
        );
        warned(&team, "AdmissionDenied", &name).await?;

        policy_bindings.delete(&name, &DeleteParams::default()).await?;
        policies.delete(&name, &DeleteParams::default()).await?;
        recovers(&team, created.metadata.generation).await
    })
}

/// Waits until a Secret of anybody is refused.
async fn in_effect(team: &Team<'_>, what: &str) -> anyhow::Result<()> {
    let secrets = team.api::<Secret>();
    let secret: Secret = from_value(json!({"metadata": {"name": "probe"}}))?;
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    wait_for(&format!("{what} is in effect"), EFFECT, async || {
        let refused = secrets.create(&params, &secret).await.err();
        Ok(refused.is_some_and(|error| {
            let error = error.to_string();
            error.contains("exceeded quota") || error.contains("denied request")
        }))
    })
    .await
}

/// An event of the team's binding says it.
async fn warned(team: &Team<'_>, reason: &str, words: &str) -> anyhow::Result<()> {
    wait_for(&format!("an event says {reason}"), EFFECT, async || {
        let events = team.api::<Event>().list(&ListParams::default()).await?;
        Ok(events.items.iter().any(|event| {
            event.reason.as_deref() == Some(reason)
                && event.type_.as_deref() == Some("Warning")
                && event.note.as_deref().is_some_and(|note| note.contains(words))
                && event
                    .related
                    .as_ref()
                    .is_some_and(|related| related.name.as_deref() == Some("acr-pull-web"))
        }))
    })
    .await
}

/// Waits until the binding is ready, although nobody wrote it.
async fn recovers(team: &Team<'_>, generation: Option<i64>) -> anyhow::Result<()> {
    let ready = team
        .wait_binding("web", "is Ready again", PATIENCE, |binding| {
            condition(binding, "Ready").is_some_and(|ready| ready.status == "True")
        })
        .await?;
    assert_eq!(ready.metadata.generation, generation, "nobody wrote the binding");
    let status = ready.status.context("it has a status")?;
    assert_eq!(status.error, None);
    assert!(status.last_failure.is_some(), "kept for those who ask later");
    assert!(
        status
            .conditions
            .iter()
            .all(|one| !["Reconciling", "Stalled"].contains(&one.type_.as_str())),
        "{status:?}"
    );
    Ok(())
}
