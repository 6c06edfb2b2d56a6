//! Azure/msi-acrpull, as the API server sees it: full updates under the field manager `manager`, a finalizer, Secrets
//! built anew with each write, lists that are sorted.

mod secret;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use e2e::{PullSecret, Team, poll};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{LocalObjectReference, Secret, ServiceAccount};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use syncer::binding::{ApiVersion, Binding};
use syncer::crd::AcrPullBindingStatus;
use syncer::pull_secret;

use crate::shared::{HANDOVER, V1BETA1_DEFAULT};

pub(super) const FINALIZER: &str = "msi-acrpull.microsoft.com";
pub(super) const SCOPE: &str = "repository:team/web:pull";
/// On every binding of these tests.
pub(super) const LABEL: &str = "e2e.example/handover";
const PATIENCE: Duration = Duration::from_secs(30);

/// A binding that it works on.
pub(super) struct Bound<'a> {
    pub(super) team: &'a Team<'a>,
    pub(super) api: ApiVersion,
    pub(super) name: &'static str,
    pub(super) account: &'static str,
    pub(super) registry: String,
    spec: Value,
    /// What its hash is made of.
    inputs: String,
    labels: BTreeMap<String, String>,
    bindings: Api<DynamicObject>,
}

impl<'a> Bound<'a> {
    /// For the identity that is granted to the team.
    pub(super) fn by_identity(
        team: &'a Team<'a>,
        api: ApiVersion,
        name: &'static str,
        account: &'static str,
    ) -> Self {
        let registry = HANDOVER.registry;
        let id = HANDOVER.identity().client_id;
        let (spec, inputs) = match api {
            ApiVersion::V1Beta2 => (
                json!({
                    "acr": {"environment": "PublicCloud", "scope": SCOPE, "server": registry},
                    "auth": {"managedIdentity": {"clientID": id}},
                    "serviceAccountName": account,
                }),
                format!("{account}managedIdentity{id}PublicCloud{registry}{SCOPE}"),
            ),
            ApiVersion::V1Beta1 => (
                json!({
                    "acrServer": registry,
                    "managedIdentityClientID": id,
                    "scope": SCOPE,
                    "serviceAccountName": account,
                }),
                format!("{id}{}{registry}{SCOPE}", V1BETA1_DEFAULT.identity().resource_id),
            ),
        };
        Self::new(team, api, name, account, registry.to_owned(), spec, inputs)
    }

    /// For the identity of the ServiceAccount, at the team's own registry.
    pub(super) fn by_account(team: &'a Team<'a>, name: &'static str, account: &'static str) -> Self {
        let registry = team.registry();
        let spec = json!({
            "acr": {"environment": "PublicCloud", "scope": SCOPE, "server": registry},
            "auth": {"workloadIdentity": {"serviceAccountRef": account}},
            "serviceAccountName": account,
        });
        let inputs = format!("{account}workloadIdentity{account}PublicCloud{registry}{SCOPE}");
        Self::new(
            team,
            ApiVersion::V1Beta2,
            name,
            account,
            registry.to_owned(),
            spec,
            inputs,
        )
    }

    fn new(
        team: &'a Team<'a>,
        api: ApiVersion,
        name: &'static str,
        account: &'static str,
        registry: String,
        spec: Value,
        inputs: String,
    ) -> Self {
        let kind = ApiResource::erase::<Binding>(&api);
        let client = team.api::<Secret>().into_client();
        Self {
            bindings: Api::namespaced_with(client, team.namespace(), &kind),
            team,
            api,
            name,
            account,
            registry,
            spec,
            inputs,
            labels: BTreeMap::new(),
        }
    }

    /// The same with labels, by which controllers select it.
    pub(super) fn labelled(mut self, labels: &[(&str, &str)]) -> Self {
        let labels = labels
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()));
        self.labels.extend(labels);
        self
    }

    pub(super) fn secret_name(&self) -> String {
        pull_secret::name_for(self.api, self.name)
    }

    /// A token that works, as the peer would get one: the running syncer's, for a binding that is made for it and goes.
    pub(super) async fn token(&self) -> anyhow::Result<String> {
        let kind = ApiResource::erase::<Binding>(&self.api);
        let donor = format!("donor-{}", self.name);
        let binding = DynamicObject::new(&donor, &kind).data(json!({ "spec": self.spec }));
        self.bindings.create(&PostParams::default(), &binding).await?;
        let secrets = self.team.api::<Secret>();
        let secret_name = pull_secret::name_for(self.api, &donor);
        let token = poll("the donor has a token", PATIENCE, async || {
            let secret = secrets.get_opt(&secret_name).await?;
            Ok(secret.map(PullSecret::read).transpose()?.ok_or("not yet"))
        })
        .await?;
        self.bindings.delete(&donor, &DeleteParams::default()).await?;
        poll("the donor and its link are gone", PATIENCE, async || {
            let links = self.team.links(self.account).await?;
            let is_gone = secrets.get_opt(&secret_name).await?.is_none() && !links.contains(&secret_name);
            Ok(is_gone.then_some(()).ok_or("not yet"))
        })
        .await?;
        Ok(token.docker_config)
    }

    /// The binding alone, as the team writes it.
    pub(super) async fn create(&self) -> anyhow::Result<()> {
        let kind = ApiResource::erase::<Binding>(&self.api);
        let mut binding = DynamicObject::new(self.name, &kind).data(json!({ "spec": self.spec }));
        binding.labels_mut().extend(self.labels.clone());
        binding.labels_mut().insert(LABEL.to_owned(), String::new());
        self.bindings.create(&PostParams::default(), &binding).await?;
        Ok(())
    }

    /// Everything as the peer leaves it: finalizer, Secret, link, status. The uid of the Secret.
    pub(super) async fn leave(&self, docker_config: &str) -> anyhow::Result<String> {
        self.create().await?;
        self.claim().await?;
        self.write_secret(docker_config).await?;
        self.link(self.account).await?;
        let mut binding = self.bindings.get(self.name).await?;
        let now = second(Timestamp::now());
        let status = json!({
            "lastTokenRefreshTime": now,
            "tokenExpirationTime": second(Timestamp::now() + SignedDuration::from_mins(75)),
        });
        write(&mut binding.data, "", "status", status)?;
        self.bindings
            .replace_status(self.name, &by_the_peer(), &binding)
            .await?;
        Ok(self.secret().await?.version().1)
    }

    /// Puts the finalizer on the binding. Writing a binding of `v1beta1` back leaves empty strings in its spec.
    pub(super) async fn claim(&self) -> anyhow::Result<()> {
        loop {
            let mut binding = self.bindings.get(self.name).await?;
            binding.finalizers_mut().push(FINALIZER.to_owned());
            if self.api == ApiVersion::V1Beta1 {
                write(&mut binding.data, "/spec", "managedIdentityResourceID", json!(""))?;
            }
            match self.bindings.replace(self.name, &by_the_peer(), &binding).await {
                Ok(_claimed) => return Ok(()),
                // The syncer wrote the status meanwhile: the peer tries again, as any controller does.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(error).context("failed to write the finalizer"),
            }
        }
    }

    /// Links the Secret and sorts the list.
    pub(super) async fn link(&self, account: &str) -> anyhow::Result<()> {
        let accounts = self.team.api::<ServiceAccount>();
        let mut account = accounts.get(account).await?;
        let list = account.image_pull_secrets.get_or_insert_default();
        list.push(LocalObjectReference {
            name: self.secret_name(),
        });
        list.sort_by(|one, other| one.name.cmp(&other.name));
        accounts
            .replace(&account.name_any(), &by_the_peer(), &account)
            .await?;
        Ok(())
    }

    /// Works as the peer does when it sees a change: puts the finalizer back, which `claims` counts, asks for a token if
    /// the annotations say so, and writes the status anew, with its own fields alone, if there is an `error`. Nothing that
    /// the syncer does may bring it to the last two.
    pub(super) async fn watch(&self, claims: &AtomicUsize) -> anyhow::Result<()> {
        loop {
            let binding = self.bindings.get(self.name).await?;
            if binding.finalizers().iter().all(|name| name != FINALIZER) {
                self.claim().await?;
                claims.fetch_add(1, Ordering::SeqCst);
            }
            let error = binding.data.pointer("/status/error").and_then(Value::as_str);
            anyhow::ensure!(
                error.unwrap_or_default().is_empty(),
                "the peer drops what the syncer says in the status"
            );
            anyhow::ensure!(
                !self.would_mint(&self.secret().await?)?,
                "the peer asks for a token because of what the syncer did"
            );
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    pub(super) async fn secret(&self) -> anyhow::Result<PullSecret> {
        PullSecret::read(self.team.api::<Secret>().get(&self.secret_name()).await?)
    }

    /// The binding, if it is there, with what its status says.
    pub(super) async fn get(&self) -> anyhow::Result<Option<(DynamicObject, AcrPullBindingStatus)>> {
        let Some(mut binding) = self.bindings.get_opt(self.name).await? else {
            return Ok(None);
        };
        let status = binding.data.get_mut("status").map(Value::take);
        let status = status
            .map(serde_json::from_value)
            .transpose()?
            .unwrap_or_default();
        Ok(Some((binding, status)))
    }

    pub(super) async fn patch(&self, patch: &Value) -> anyhow::Result<()> {
        self.bindings
            .patch(self.name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        Ok(())
    }

    pub(super) async fn delete(&self) -> anyhow::Result<()> {
        self.bindings.delete(self.name, &DeleteParams::default()).await?;
        Ok(())
    }

    /// Waits until the binding is as it should be.
    pub(super) async fn wait(
        &self,
        what: &str,
        is_so: impl Fn(&DynamicObject, &AcrPullBindingStatus) -> bool,
    ) -> anyhow::Result<AcrPullBindingStatus> {
        poll(
            &format!("binding {} {what}", self.name),
            2 * PATIENCE,
            async || {
                let Some((binding, status)) = self.get().await? else {
                    return Ok(Err("it is gone".to_owned()));
                };
                Ok(if is_so(&binding, &status) {
                    Ok(status)
                } else {
                    Err(format!("{:?} {status:?}", binding.finalizers()))
                })
            },
        )
        .await
    }
}

/// Writes a field of the object at this place.
fn write(data: &mut Value, place: &str, field: &str, value: Value) -> anyhow::Result<()> {
    let object = data.pointer_mut(place).and_then(Value::as_object_mut);
    object.context("it is no object")?.insert(field.to_owned(), value);
    Ok(())
}

/// As the program of the peer calls itself.
fn by_the_peer() -> PostParams {
    PostParams {
        field_manager: Some("manager".to_owned()),
        ..PostParams::default()
    }
}

fn second(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second())
        .unwrap_or(time)
        .to_string()
}
