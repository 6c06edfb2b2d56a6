//! Admission policies of the cluster's own, one for each thing that the syncer writes.

use e2e::{Team, binding, wait_for};
use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, ResourceExt as _};
use serde_json::{Value, from_value, json};
use syncer::binding::ApiVersion;

use super::{EFFECT, PATIENCE, create, in_effect, recover, warned};
use crate::shared::{EITHER_API, beside_others};
use crate::side::{ACCOUNT, SCOPE, Side};

/// A policy that refuses something in the team's namespace to everybody.
struct Policy {
    name: String,
    client: Client,
}

impl Policy {
    /// `rules` says what. The policy's own words quote the object, which no status and no log may repeat.
    async fn create(team: &Team<'_>, what: &str, rules: Value, words: &str) -> anyhow::Result<Self> {
        let client = team.api::<Secret>().into_client();
        let name = format!("no-{what}-in-{}", team.namespace());
        let policy = from_value(json!({
            "metadata": {"name": name},
            "spec": {
                "failurePolicy": "Fail",
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": team.namespace()}},
                    "resourceRules": rules,
                },
                "validations": [{"expression": "false", "messageExpression": words}],
            },
        }))?;
        let bound = from_value(json!({
            "metadata": {"name": name},
            "spec": {"policyName": name, "validationActions": ["Deny"]},
        }))?;
        let params = PostParams::default();
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
        policies.create(&params, &policy).await?;
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
        bindings.create(&params, &bound).await?;
        Ok(Self { name, client })
    }

    async fn delete(self) -> anyhow::Result<()> {
        let params = DeleteParams::default();
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(self.client.clone());
        bindings.delete(&self.name, &params).await?;
        let policies: Api<ValidatingAdmissionPolicy> = Api::all(self.client);
        policies.delete(&self.name, &params).await?;
        Ok(())
    }

    fn refuses(&self, what: &str) -> String {
        format!(
            "cannot {what}: ValidatingAdmissionPolicy {} refuses it",
            self.name
        )
    }
}

/// Waits until what is tried, as a dry run, is refused.
async fn refused<T>(what: &str, tried: impl AsyncFn() -> kube::Result<T>) -> anyhow::Result<()> {
    wait_for(
        &format!("the policy on {what} is in effect"),
        EFFECT,
        async || {
            let refused = tried().await.err();
            Ok(refused.is_some_and(|error| error.to_string().contains("denied request")))
        },
    )
    .await
}

fn dry_run() -> (PostParams, PatchParams) {
    let post = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let patch = PatchParams {
        dry_run: true,
        ..PatchParams::default()
    };
    (post, patch)
}

#[test]
fn b18_admission_policy_that_refuses_the_secret_is_named() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        team.create_account(ACCOUNT, &[], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let rules = json!([{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["secrets"],
        }]);
        let words = "'holds ' + string(object.data['.dockerconfigjson'])";
        let policy = Policy::create(&team, "secrets", rules, words).await?;
        in_effect(&team, "the policy").await?;

        let created = create(&sides).await?;
        for side in &sides {
            let refused = side.refused("web", "SecretSynced", "AdmissionDenied").await?;
            let secret = side.secret_name("web");
            assert_eq!(
                refused.error,
                Some(policy.refuses(&format!("write Secret {secret}"))),
                "and nothing of what the policy says, which may quote the Secret"
            );
            warned(side, "AdmissionDenied", &policy.name).await?;
        }

        policy.delete().await?;
        recover(&sides, created).await
    })
}

#[test]
fn b18_admission_policy_that_refuses_the_link_is_named_and_the_secret_is_there() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        team.create_account(ACCOUNT, &[], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let rules = json!([{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["serviceaccounts"],
        }]);
        let policy = Policy::create(&team, "links", rules, "'says no to ' + object.metadata.name").await?;
        let accounts = team.api::<ServiceAccount>();
        refused("ServiceAccounts", async || {
            let label = Patch::Merge(json!({"metadata": {"labels": {"tried": "yes"}}}));
            accounts.patch(ACCOUNT, &dry_run().1, &label).await
        })
        .await?;

        let created = create(&sides).await?;
        for side in &sides {
            side.refused("web", "ServiceAccountLinked", "AdmissionDenied")
                .await?;
            let status = side.refused("web", "Ready", "AdmissionDenied").await?;
            assert_eq!(
                status.error,
                Some(policy.refuses(&format!("link ServiceAccount {ACCOUNT}")))
            );
            side.condition("web", "SecretSynced", "True").await?;
            assert!(side.secret("web").await?.login(EITHER_API.registry).is_ok());
            told(side, "AdmissionDenied", &policy.name).await?;
        }
        assert!(team.links(ACCOUNT).await?.is_empty());

        policy.delete().await?;
        for (side, generation) in sides.iter().zip(created) {
            wait_for("the binding is Ready", PATIENCE, async || {
                Ok(side.get("web").await?.1.error.is_none())
            })
            .await?;
            side.ready("web").await?;
            let (binding, _status) = side.get("web").await?;
            assert_eq!(
                binding.metadata.generation, generation,
                "nobody wrote the binding"
            );
            let links = team.links(ACCOUNT).await?;
            assert!(links.contains(&side.secret_name("web")), "{links:?}");
        }
        Ok(())
    })
}

/// Only bindings of `v1beta2` need one.
#[test]
fn b18_admission_policy_that_refuses_the_token_of_the_account_is_named() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("no-token").await?;
        team.federated_account(ACCOUNT).await?;
        let rules = json!([{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["serviceaccounts/token"],
        }]);
        let policy = Policy::create(&team, "tokens", rules, "'says no to ' + object.metadata.name").await?;
        let accounts = team.api::<ServiceAccount>();
        refused("tokens", async || {
            let nothing = TokenRequest::default();
            accounts
                .create_token_request(ACCOUNT, &dry_run().0, &nothing)
                .await
        })
        .await?;

        let side = Side::new(&team, ApiVersion::V1Beta2);
        let binding = binding::workload_identity("web", ACCOUNT, team.registry(), SCOPE);
        let created = team.create(&binding).await?;
        side.refused("web", "CredentialIssued", "AdmissionDenied").await?;
        let status = side.refused("web", "Ready", "AdmissionDenied").await?;
        assert_eq!(
            status.error,
            Some(policy.refuses(&format!("request a token of ServiceAccount {ACCOUNT}")))
        );
        assert_eq!(team.links(ACCOUNT).await?, [side.secret_name("web")]);
        told(&side, "AdmissionDenied", &policy.name).await?;

        policy.delete().await?;
        recover(&[side], vec![created.metadata.generation]).await
    })
}

/// A status cannot say that it may not be written: an event does, and the binding works all the same.
#[test]
fn b18_admission_policy_that_refuses_the_status_stops_neither_the_link_nor_the_secret() -> anyhow::Result<()>
{
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        team.create_account(ACCOUNT, &[], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let rules = json!([{
            "apiGroups": sides.each_ref().map(|side| side.api.group()), "apiVersions": ["*"],
            "operations": ["UPDATE"], "resources": ["acrpullbindings/status"],
        }]);
        let policy = Policy::create(&team, "status", rules, "'says no to ' + object.metadata.name").await?;
        // Bindings that no syncer works on, to try it with.
        for side in &sides {
            let elsewhere = [(crate::shared::ELSEWHERE, "nowhere")];
            side.create_labelled("probe", &side.spec(ACCOUNT, SCOPE), &elsewhere)
                .await?;
            wait_for("the policy on the status is in effect", EFFECT, async || {
                let refused = side.keeps_conditions("probe").await.err();
                Ok(refused.is_some_and(|error| format!("{error:#}").contains("denied request")))
            })
            .await?;
        }
        let generations = create(&sides).await?;
        for side in &sides {
            let works = side.wait_secret("web", "is there", |secret| {
                secret.login(EITHER_API.registry).is_ok()
            });
            works.await?;
            let secret = side.secret_name("web");
            wait_for("it is linked", EFFECT, async || {
                Ok(team.links(ACCOUNT).await?.contains(&secret))
            })
            .await?;
            let (binding, status) = side.get("web").await?;
            assert!(status.conditions.is_empty(), "{}: {status:?}", binding.name_any());
        }
        for side in &sides {
            told(
                side,
                "AdmissionDenied",
                &policy.refuses("write the status of the binding"),
            )
            .await?;
        }

        policy.delete().await?;
        for (side, generation) in sides.iter().zip(generations) {
            side.ready("web").await?;
            let (binding, _status) = side.get("web").await?;
            assert_eq!(
                binding.metadata.generation, generation,
                "nobody wrote the binding"
            );
        }
        Ok(())
    })
}

/// An event of the side's binding says it, whatever else it is about.
async fn told(side: &Side<'_>, reason: &str, words: &str) -> anyhow::Result<()> {
    wait_for(&format!("an event says {reason}"), EFFECT, async || {
        let events = side.team.api::<Event>().list(&ListParams::default()).await?;
        Ok(events.items.iter().any(|event| {
            let regarding = event.regarding.as_ref();
            event.reason.as_deref() == Some(reason)
                && event.type_.as_deref() == Some("Warning")
                && event.note.as_deref().is_some_and(|note| note.contains(words))
                && regarding.is_some_and(|regarding| {
                    regarding.api_version.as_deref() == Some(side.api.as_str())
                        && regarding.name.as_deref() == Some("web")
                })
        }))
    })
    .await
}
