//! A team that writes bindings of one of the two APIs.

use std::time::Duration;

use anyhow::{Context as _, bail};
use e2e::{PullSecret, Team, VmIdentity, poll};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use syncer::binding::{ApiVersion, Binding};
use syncer::crd::AcrPullBindingStatus;
use syncer::pull_secret;

use crate::shared::EITHER_API;

/// How long a binding may take to get anywhere.
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct Side<'a> {
    pub(super) team: &'a Team<'a>,
    pub(super) api: ApiVersion,
    bindings: Api<DynamicObject>,
}

impl<'a> Side<'a> {
    pub(super) fn new(team: &'a Team<'a>, api: ApiVersion) -> Self {
        let client = team.api::<Secret>().into_client();
        let kind = ApiResource::erase::<Binding>(&api);
        Self {
            team,
            api,
            bindings: Api::namespaced_with(client, team.namespace(), &kind),
        }
    }

    /// What a team writes for the identity that is granted to it.
    pub(super) fn spec(&self, account: &str, scope: &str) -> Value {
        let registry = EITHER_API.registry;
        let VmIdentity { client_id, .. } = EITHER_API.identity();
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

    pub(super) async fn create(&self, name: &str, spec: &Value) -> anyhow::Result<DynamicObject> {
        let kind = ApiResource::erase::<Binding>(&self.api);
        let binding = DynamicObject::new(name, &kind).data(json!({ "spec": spec }));
        let created = self.bindings.create(&PostParams::default(), &binding).await;
        created.with_context(|| format!("failed to create binding {name}"))
    }

    pub(super) async fn patch(&self, name: &str, patch: &Value) -> anyhow::Result<()> {
        let params = PatchParams::default();
        let patched = self.bindings.patch(name, &params, &Patch::Merge(patch)).await;
        patched.with_context(|| format!("failed to patch binding {name}"))?;
        Ok(())
    }

    pub(super) async fn request_refresh(&self, name: &str, value: &str) -> anyhow::Result<()> {
        let annotations = json!({"acrpull.microsoft.com/refresh-requested": value});
        self.patch(name, &json!({"metadata": {"annotations": annotations}}))
            .await
    }

    pub(super) async fn delete(&self, name: &str) -> anyhow::Result<()> {
        self.bindings.delete(name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// The binding as it is, with what its status says.
    pub(super) async fn get(&self, name: &str) -> anyhow::Result<(DynamicObject, AcrPullBindingStatus)> {
        let mut binding = self.bindings.get(name).await?;
        let status = binding.data.get_mut("status").map(Value::take);
        let status = status
            .map(serde_json::from_value)
            .transpose()?
            .unwrap_or_default();
        Ok((binding, status))
    }

    /// Whether the installed CRD keeps the conditions of a status. Tried as a dry run.
    pub(super) async fn keeps_conditions(&self, name: &str) -> anyhow::Result<bool> {
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
    pub(super) async fn wait(
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
    pub(super) async fn condition(
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

    pub(super) async fn ready(&self, name: &str) -> anyhow::Result<AcrPullBindingStatus> {
        self.condition(name, "Ready", "True").await
    }

    pub(super) fn secret_name(&self, binding: &str) -> String {
        pull_secret::name_for(self.api, binding)
    }

    pub(super) async fn secret(&self, binding: &str) -> anyhow::Result<PullSecret> {
        let name = self.secret_name(binding);
        let Some(secret) = self.team.api::<Secret>().get_opt(&name).await? else {
            bail!("there is no Secret {name}");
        };
        PullSecret::read(secret)
    }

    /// Waits until the Secret is as it should be.
    pub(super) async fn wait_secret(
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
