//! The admission policies of the syncer's chart: its rights reach further than they should, and these stop it there.
//! Each is tried with a write that it forbids and one that it allows, by the syncer's own ServiceAccount, as a dry run:
//! policies judge those as well.

use std::time::Duration;

use e2e::{FEDERATION_AUDIENCE, NAMESPACE, Stack, Team, binding, wait_for};
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Client;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use syncer::crd::AcrPullBinding;

use crate::shared::beside_others;

const SYNCER: &str = "acrpull-syncer";
const POLICIES: [&str; 5] = ["token", "secret", "serviceaccount", "binding", "binding-spec"];
const SCOPE: &str = "repository:team/web:pull";
/// A policy takes effect within a second; the control plane's start may have been a moment ago.
const EFFECT: Duration = Duration::from_secs(15);

/// A team, seen by the syncer's ServiceAccount.
struct Judged<'a> {
    team: Team<'a>,
    syncer: Client,
}

impl<'a> Judged<'a> {
    /// When all policies are in effect.
    async fn new(stack: &'a Stack, prefix: &str) -> anyhow::Result<Self> {
        let team = stack.team(prefix).await?;
        team.create_account("web", &["own"], &[("owner", "somebody")])
            .await?;
        let syncer = stack
            .plane()
            .client_for_service_account(NAMESPACE, SYNCER)
            .await?;
        let judged = Self { team, syncer };
        wait_for("the policies are in effect", EFFECT, async || {
            Ok(judged
                .patch_account(&json!({"metadata": {"labels": {"a": "b"}}}))
                .await
                .is_err())
        })
        .await?;
        Ok(judged)
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = kube::core::NamespaceResourceScope>,
    {
        Api::namespaced(self.syncer.clone(), self.team.namespace())
    }

    async fn patch_account(&self, patch: &Value) -> kube::Result<ServiceAccount> {
        self.api()
            .patch("web", &dry(&PatchParams::default()), &Patch::Merge(patch))
            .await
    }

    async fn mint(&self, spec: Value) -> kube::Result<TokenRequest> {
        let request = serde_json::from_value(json!({ "spec": spec })).map_err(kube::Error::SerdeError)?;
        self.api::<ServiceAccount>()
            .create_token_request("web", &PostParams::default(), &request)
            .await
    }

    async fn apply_secret(&self, name: &str, change: Value) -> kube::Result<Secret> {
        let mut secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
            "metadata": {
                "name": name,
                "labels": {"acr.microsoft.com/binding": "web"},
                "ownerReferences": [{
                    "apiVersion": "acrpull.microsoft.com/v1beta2", "kind": "AcrPullBinding", "name": "web",
                    "uid": "00a3df55-48a4-40e3-b9de-033eb4db62bb", "controller": true,
                }],
            },
            "stringData": {".dockerconfigjson": r#"{"auths":{}}"#},
        });
        merge(&mut secret, change);
        let params = dry(&PatchParams::apply(SYNCER));
        self.api::<Secret>()
            .patch(name, &params, &Patch::Apply(&secret))
            .await
    }
}

#[test]
fn policy_each_has_no_type_errors() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let policies = Api::<ValidatingAdmissionPolicy>::all(stack.client()?);
        for name in POLICIES.map(|name| format!("{SYNCER}-{name}")) {
            let checked = async || {
                let status = policies.get(&name).await?.status.unwrap_or_default();
                anyhow::Ok(status.type_checking)
            };
            wait_for(&format!("{name} is checked"), EFFECT, async || {
                Ok(checked().await?.is_some())
            })
            .await?;
            let warnings = checked()
                .await?
                .and_then(|checked| checked.expression_warnings)
                .unwrap_or_default();
            assert!(warnings.is_empty(), "{name}: {warnings:?}");
        }
        Ok(())
    })
}

#[test]
fn policy_token_allows_the_exchange_audience_only() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let judged = Judged::new(stack, "policy-token").await?;
        judged
            .mint(json!({"audiences": [FEDERATION_AUDIENCE], "expirationSeconds": 600}))
            .await?;
        for forbidden in [
            json!({"audiences": []}),
            json!({"audiences": ["vault"], "expirationSeconds": 600}),
            json!({"audiences": [FEDERATION_AUDIENCE, "vault"], "expirationSeconds": 600}),
            json!({"audiences": [FEDERATION_AUDIENCE], "expirationSeconds": 7200}),
        ] {
            assert_denied(&judged.mint(forbidden.clone()).await, "token", &forbidden);
        }
        Ok(())
    })
}

#[test]
fn policy_secret_allows_pull_secrets_of_bindings_only() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let judged = Judged::new(stack, "policy-secret").await?;
        judged.apply_secret("acr-pull-web", json!({})).await?;
        let foreign = Secret {
            metadata: ObjectMeta {
                name: Some("password".to_owned()),
                ..ObjectMeta::default()
            },
            string_data: Some([("password".to_owned(), "secret".to_owned())].into()),
            ..Secret::default()
        };
        judged
            .team
            .api::<Secret>()
            .create(&PostParams::default(), &foreign)
            .await?;
        let read_back = judged
            .api::<Secret>()
            .patch("password", &PatchParams::default(), &Patch::Merge(json!({})))
            .await;
        assert_denied(
            &read_back,
            "secret",
            &json!("an empty patch, which would answer with the data"),
        );
        for (name, forbidden) in [
            ("acr-pull-other", json!({})),
            ("acr-pull-web", json!({"type": "Opaque"})),
            ("acr-pull-web", json!({"metadata": {"ownerReferences": null}})),
            ("acr-pull-web", json!({"metadata": {"labels": null}})),
            ("acr-pull-web", json!({"stringData": {"more": "x"}})),
            (
                "acr-pull-web",
                json!({"type": "kubernetes.io/service-account-token", "metadata": {"annotations": {"kubernetes.io/service-account.name": "default"}}}),
            ),
        ] {
            assert_denied(
                &judged.apply_secret(name, forbidden.clone()).await,
                "secret",
                &forbidden,
            );
        }
        Ok(())
    })
}

#[test]
fn policy_serviceaccount_allows_own_links_and_the_record_only() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let judged = Judged::new(stack, "policy-account").await?;
        let record = json!({"acrpull.microsoft.com/linked-secrets": "acr-pull-web"});
        let linked = json!([{"name": "own"}, {"name": "acr-pull-web"}]);
        judged
            .patch_account(&json!({"metadata": {"annotations": record}, "imagePullSecrets": linked}))
            .await?;
        for forbidden in [
            json!({"imagePullSecrets": [{"name": "acr-pull-web"}]}),
            json!({"imagePullSecrets": [{"name": "own"}, {"name": "other"}]}),
            json!({"metadata": {"annotations": {"azure.workload.identity/client-id": "another"}}}),
            json!({"metadata": {"annotations": {"owner": null}}}),
            json!({"metadata": {"finalizers": ["a.example/b"]}}),
            json!({"automountServiceAccountToken": false}),
        ] {
            assert_denied(
                &judged.patch_account(&forbidden).await,
                "serviceaccount",
                &forbidden,
            );
        }
        Ok(())
    })
}

#[test]
fn policy_binding_allows_the_peers_finalizer_to_go_only() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let judged = Judged::new(stack, "policy-binding").await?;
        // The running syncer leaves the finalizer of a binding alone whose Secret is somebody else's.
        let taken = json!({"metadata": {"name": "acr-pull-web"}});
        let secrets = judged.team.api::<Secret>();
        secrets
            .create(&PostParams::default(), &serde_json::from_value(taken)?)
            .await?;
        let mut peers = binding::workload_identity("web", "web", judged.team.registry(), SCOPE);
        peers.metadata.finalizers = Some(vec!["msi-acrpull.microsoft.com".to_owned()]);
        judged.team.create(&peers).await?;
        let patch = async |patch: &Value| {
            let params = dry(&PatchParams::default());
            judged
                .api::<AcrPullBinding>()
                .patch("web", &params, &Patch::Merge(patch))
                .await
        };
        patch(&json!({"metadata": {"finalizers": null}})).await?;
        for forbidden in [
            json!({"spec": {"serviceAccountName": "other"}}),
            json!({"metadata": {"labels": {"a": "b"}}}),
            json!({"metadata": {"annotations": {"acrpull.microsoft.com/refresh-requested": "now"}}}),
            json!({"metadata": {"finalizers": ["msi-acrpull.microsoft.com", "a.example/b"]}}),
        ] {
            assert_denied(&patch(&forbidden).await, "binding", &forbidden);
        }
        let left = judged.team.api::<AcrPullBinding>().get("web").await?;
        assert_eq!(
            left.metadata.finalizers, peers.metadata.finalizers,
            "it is judged on one that has it"
        );
        Ok(())
    })
}

#[test]
fn policy_binding_spec_allows_pulls_from_known_domains_only() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let judged = Judged::new(stack, "policy-spec").await?;
        let bindings = judged.team.api::<AcrPullBinding>();
        let params = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let create = async |registry: &str, scope: &str| {
            bindings
                .create(
                    &params,
                    &binding::workload_identity("web", "web", registry, scope),
                )
                .await
        };
        create("example.azurecr.io", SCOPE).await?;
        create(
            "example.azurecr.cn",
            "repository:a:pull,metadata_read repository:b:pull",
        )
        .await?;
        for (registry, scope) in [
            ("example.evil.example", SCOPE),
            ("example.azurecr.io.evil.example", SCOPE),
            ("notazurecr.io", SCOPE),
            ("example.azurecr.io", "repository:team/web:pull,push"),
            (
                "example.azurecr.io",
                "repository:team/web:pull repository:team/web:delete",
            ),
        ] {
            let what = json!([registry, scope]);
            assert_denied(&create(registry, scope).await, "binding-spec", &what);
        }
        Ok(())
    })
}

#[track_caller]
fn assert_denied<T>(result: &kube::Result<T>, policy: &str, what: &Value) {
    let message = result.as_ref().err().map(ToString::to_string);
    let message = message.unwrap_or_else(|| "it was allowed".to_owned());
    // Not another guard that happened to be in the way.
    assert!(
        message.contains(&format!("'{SYNCER}-{policy}'")),
        "{what}: {message}"
    );
}

fn dry(params: &PatchParams) -> PatchParams {
    PatchParams {
        dry_run: true,
        ..params.clone()
    }
}

/// RFC 7386.
fn merge(target: &mut Value, change: Value) {
    match (target, change) {
        (Value::Object(target), Value::Object(change)) => {
            for (key, value) in change {
                if value.is_null() {
                    target.remove(&key);
                } else {
                    merge(target.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (target, change) => *target = change,
    }
}
