//! A team that writes bindings of one of the two APIs, and scenarios that are played for both.

use std::pin::pin;
use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::{PullSecret, Stack, Team, VmIdentity, poll};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent,
    WatchParams,
};
use serde_json::{Value, json};
use syncer::binding::{ApiVersion, Binding};
use syncer::crd::AcrPullBindingStatus;
use syncer::pull_secret;

use crate::shared::{EITHER_API, Granted, alone, beside_others};

/// How long a binding may take to get anywhere.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// The ServiceAccount of most scenarios, and what it lists before.
pub(crate) const ACCOUNT: &str = "web";
pub(crate) const OWN: &str = "own";
/// What most bindings ask for.
pub(crate) const SCOPE: &str = "repository:team/web:pull";

/// Plays a scenario for bindings of each API, one after the other, in a namespace of its own with a ServiceAccount [`ACCOUNT`].
#[expect(clippy::needless_pass_by_value, reason = "the scenario is written in place")]
pub(crate) fn in_both_apis(
    scenario: impl AsyncFn(&Stack, &Side<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    beside_others(async |stack| in_each_api(stack, &EITHER_API, &scenario).await)
}

/// The same while no other test runs, for scenarios that stop a process.
#[expect(clippy::needless_pass_by_value, reason = "the scenario is written in place")]
pub(crate) fn in_both_apis_alone(
    scenario: impl AsyncFn(&Stack, &Side<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    alone(async |stack| in_each_api(stack, &EITHER_API, &scenario).await)
}

/// The same on a stack that is at hand, for teams that `granted` is for.
pub(crate) async fn in_each_api(
    stack: &Stack,
    granted: &Granted,
    scenario: &impl AsyncFn(&Stack, &Side<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for api in ApiVersion::ALL {
        let team = stack.team(granted.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let side = Side::new(&team, api);
        scenario(stack, &side).await.with_context(|| api.as_str())?;
    }
    Ok(())
}

pub(crate) struct Side<'a> {
    pub(crate) team: &'a Team<'a>,
    pub(crate) api: ApiVersion,
    bindings: Api<DynamicObject>,
}

impl<'a> Side<'a> {
    pub(crate) fn new(team: &'a Team<'a>, api: ApiVersion) -> Self {
        let client = team.api::<Secret>().into_client();
        let kind = ApiResource::erase::<Binding>(&api);
        Self {
            team,
            api,
            bindings: Api::namespaced_with(client, team.namespace(), &kind),
        }
    }

    /// What a team writes for the identity that is granted to it.
    pub(crate) fn spec(&self, account: &str, scope: &str) -> Value {
        self.spec_for(&EITHER_API, account, scope)
    }

    /// The same for another grant.
    pub(crate) fn spec_for(&self, granted: &Granted, account: &str, scope: &str) -> Value {
        let registry = granted.registry;
        let VmIdentity { client_id, .. } = granted.identity();
        match self.api {
            ApiVersion::V1Beta2 => json!({
                "acr": {"server": registry, "scope": scope},
                "auth": {"managedIdentity": {"clientID": client_id}},
                "serviceAccountName": account,
            }),
            ApiVersion::V1Beta1 => json!({
                "acrServer": registry,
                "scope": scope,
                "managedIdentityClientID": client_id,
                "serviceAccountName": account,
            }),
        }
    }

    pub(crate) async fn create(&self, name: &str, spec: &Value) -> anyhow::Result<DynamicObject> {
        self.create_labelled(name, spec, &[]).await
    }

    pub(crate) async fn create_labelled(
        &self,
        name: &str,
        spec: &Value,
        labels: &[(&str, &str)],
    ) -> anyhow::Result<DynamicObject> {
        let kind = ApiResource::erase::<Binding>(&self.api);
        let mut binding = DynamicObject::new(name, &kind).data(json!({ "spec": spec }));
        let labels = labels
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        binding.metadata.labels = Some(labels.collect());
        let created = self.bindings.create(&PostParams::default(), &binding).await;
        created.with_context(|| format!("failed to create binding {name}"))
    }

    pub(crate) async fn patch(&self, name: &str, patch: &Value) -> anyhow::Result<()> {
        let params = PatchParams::default();
        let patched = self.bindings.patch(name, &params, &Patch::Merge(patch)).await;
        patched.with_context(|| format!("failed to patch binding {name}"))?;
        Ok(())
    }

    pub(crate) async fn request_refresh(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let annotations = json!({"acrpull.microsoft.com/refresh-requested": value});
        self.patch(name, &json!({"metadata": {"annotations": annotations}}))
            .await
    }

    pub(crate) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.bindings.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The binding as it is, with what its status says.
    pub(crate) async fn get(&self, name: &str) -> anyhow::Result<(DynamicObject, AcrPullBindingStatus)> {
        let mut binding = self.bindings.get(name).await?;
        let status = binding.data.get_mut("status").map(Value::take);
        let status = status
            .map(serde_json::from_value)
            .transpose()?
            .unwrap_or_default();
        Ok((binding, status))
    }

    /// What the statuses of all bindings of the team say.
    pub(crate) async fn all(&self) -> anyhow::Result<Vec<AcrPullBindingStatus>> {
        let bindings = self.bindings.list(&ListParams::default()).await?;
        let statuses = bindings.items.into_iter().map(|mut binding| {
            let status = binding.data.get_mut("status").map(Value::take);
            status.map(serde_json::from_value).transpose()
        });
        let statuses: Result<Vec<_>, _> = statuses.collect();
        Ok(statuses?.into_iter().flatten().collect())
    }

    /// The statuses that are written within `window` after this version of the binding, each write one.
    pub(crate) async fn written_within(
        &self,
        name: &str,
        version: Option<String>,
        window: Duration,
    ) -> anyhow::Result<Vec<AcrPullBindingStatus>> {
        let params = WatchParams::default().fields(&format!("metadata.name={name}"));
        let version = version.context("the binding has no version")?;
        let changes = self.bindings.watch(&params, &version).await?;
        let mut changes = pin!(changes.take_until(tokio::time::sleep(window)));
        let mut written = Vec::new();
        while let Some(change) = changes.try_next().await? {
            match change {
                WatchEvent::Modified(mut binding) => {
                    let status = binding.data.get_mut("status").map(Value::take);
                    written.push(serde_json::from_value(status.unwrap_or_default())?);
                }
                WatchEvent::Bookmark(_) => {}
                other @ (WatchEvent::Added(_) | WatchEvent::Deleted(_) | WatchEvent::Error(_)) => {
                    bail!("{name} was not only changed: {other:?}");
                }
            }
        }
        Ok(written)
    }

    /// Whether the installed CRD keeps the conditions of a status. Tried as a dry run.
    pub(crate) async fn keeps_conditions(&self, name: &str) -> anyhow::Result<bool> {
        let condition = json!({
            "type": "example.com/Kept", "status": "True", "reason": "Tried", "message": "",
            "lastTransitionTime": "2026-11-21T12:00:00Z",
        });
        let params = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
        let tried = self.bindings.patch_status(name, &params, &patch).await?;
        Ok(tried.data.pointer("/status/conditions").is_some())
    }

    /// Waits until the status is as it should be, and speaks of the present spec.
    pub(crate) async fn wait(
        &self,
        name: &str,
        what: &str,
        is_so: impl Fn(&AcrPullBindingStatus) -> bool,
    ) -> anyhow::Result<AcrPullBindingStatus> {
        poll(&format!("binding {name} {what}"), PATIENCE, async || {
            let (binding, status) = self.get(name).await?;
            let is_current = status.observed_generation == binding.metadata.generation;
            Ok(if is_current && is_so(&status) {
                Ok(status)
            } else {
                Err(format!("{status:?}"))
            })
        })
        .await
    }

    /// Waits until a condition has this status.
    pub(crate) async fn condition(
        &self,
        name: &str,
        kind: &str,
        value: &str,
    ) -> anyhow::Result<AcrPullBindingStatus> {
        self.wait(name, &format!("has {kind} {value}"), |status| {
            let mut conditions = status.conditions.iter();
            conditions.any(|condition| condition.type_ == kind && condition.status == value)
        })
        .await
    }

    /// The same, and the reason.
    pub(crate) async fn refused(
        &self,
        name: &str,
        kind: &str,
        reason: &str,
    ) -> anyhow::Result<AcrPullBindingStatus> {
        self.wait(name, &format!("has {kind} False for {reason}"), |status| {
            let mut conditions = status.conditions.iter();
            conditions.any(|condition| {
                condition.type_ == kind && condition.status == "False" && condition.reason == reason
            })
        })
        .await
    }

    pub(crate) async fn ready(&self, name: &str) -> anyhow::Result<AcrPullBindingStatus> {
        self.condition(name, "Ready", "True").await
    }

    pub(crate) fn secret_name(&self, binding: &str) -> String {
        pull_secret::name_for(self.api, binding)
    }

    pub(crate) async fn secret(&self, binding: &str) -> anyhow::Result<PullSecret> {
        let name = self.secret_name(binding);
        let Some(secret) = self.team.api::<Secret>().get_opt(&name).await? else {
            bail!("there is no Secret {name}");
        };
        PullSecret::read(secret)
    }

    /// Waits until the Secret is as it should be.
    pub(crate) async fn wait_secret(
        &self,
        binding: &str,
        what: &str,
        is_so: impl Fn(&PullSecret) -> bool,
    ) -> anyhow::Result<PullSecret> {
        poll(&format!("the Secret of {binding} {what}"), PATIENCE, async || {
            Ok(match self.secret(binding).await {
                Ok(secret) if is_so(&secret) => Ok(secret),
                Ok(_other) => Err("it is another one".to_owned()),
                Err(error) => Err(format!("{error:#}")),
            })
        })
        .await
    }
}
