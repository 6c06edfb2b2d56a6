//! An application team: a namespace, a registry, and what such a team writes and looks at in them.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use controlplane::Namespace;
use k8s_openapi::api::core::v1::{LocalObjectReference, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde::Serialize;
use serde_json::json;
use syncer::crd::AcrPullBinding;

use crate::{Application, PullSecret, Stack, condition, wait};

/// How long a binding may take to get anywhere, unless a test says otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// How much of a process's log an error shows, in lines.
const SHOWN_LOG_LINES: usize = 15;

/// Names the identity of a ServiceAccount (Azure Workload Identity).
const CLIENT_ID_ANNOTATION: &str = "azure.workload.identity/client-id";

/// A team with a namespace of its own. Dropping it deletes the namespace.
pub struct Team<'a> {
    stack: &'a Stack,
    client: Client,
    registry: String,
    namespace: Namespace,
}

impl<'a> Team<'a> {
    pub(crate) async fn new(stack: &'a Stack, prefix: &str) -> anyhow::Result<Self> {
        let namespace = stack.plane().namespace(prefix).await?;
        let registry = format!("{}.azurecr.io", namespace.name());
        stack.azure().add_registry(&registry).await?;
        Ok(Self {
            stack,
            client: stack.client()?,
            registry,
            namespace,
        })
    }

    /// Its namespace.
    pub fn namespace(&self) -> &str {
        self.namespace.name()
    }

    /// The login server of its registry, which nobody else uses.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The objects of one kind in its namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), self.namespace())
    }

    /// Creates a ServiceAccount and an application that trusts it and may pull from the team's registry.
    ///
    /// # Errors
    /// The control plane or the simulator refuses.
    pub async fn federated_account(&self, name: &str) -> anyhow::Result<Application> {
        let application = self.application(name).await?;
        self.stack
            .azure()
            .grant_pull(&self.registry, &application.object_id)
            .await?;
        Ok(application)
    }

    /// The same without any role.
    ///
    /// # Errors
    /// The control plane or the simulator refuses.
    pub async fn application(&self, account: &str) -> anyhow::Result<Application> {
        let application = self
            .stack
            .azure()
            .add_application(self.stack.plane().issuer(), self.namespace(), account)
            .await?;
        self.create_account(account, &[], &[(CLIENT_ID_ANNOTATION, &application.client_id)])
            .await?;
        Ok(application)
    }

    /// Creates a ServiceAccount that lists these pull secrets and carries these annotations.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn create_account(
        &self,
        name: &str,
        pull_secrets: &[&str],
        annotations: &[(&str, &str)],
    ) -> anyhow::Result<()> {
        let annotations: BTreeMap<_, _> = annotations
            .iter()
            .map(|&(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        let pull_secrets = pull_secrets
            .iter()
            .map(|&name| LocalObjectReference {
                name: name.to_owned(),
            })
            .collect();
        let account = ServiceAccount {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                annotations: Some(annotations),
                ..ObjectMeta::default()
            },
            image_pull_secrets: Some(pull_secrets),
            ..ServiceAccount::default()
        };
        let created = self
            .api::<ServiceAccount>()
            .create(&PostParams::default(), &account)
            .await;
        created.with_context(|| format!("failed to create ServiceAccount {name}"))?;
        Ok(())
    }

    /// Creates a binding.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn create(&self, binding: &AcrPullBinding) -> anyhow::Result<AcrPullBinding> {
        let created = self
            .api::<AcrPullBinding>()
            .create(&PostParams::default(), binding)
            .await;
        created.with_context(|| format!("failed to create binding {}", binding.name_any()))
    }

    /// Changes a binding by a merge patch.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn patch(&self, binding: &str, patch: &serde_json::Value) -> anyhow::Result<AcrPullBinding> {
        let patched = self
            .api::<AcrPullBinding>()
            .patch(binding, &PatchParams::default(), &Patch::Merge(patch))
            .await;
        patched.with_context(|| format!("failed to patch binding {binding}"))
    }

    /// Asks for a refresh, as a person would: `kubectl annotate apb NAME acrpull.microsoft.com/refresh-requested=...`.
    ///
    /// # Errors
    /// The API server refuses it.
    pub async fn request_refresh(&self, binding: &str, value: &str) -> anyhow::Result<()> {
        let annotation =
            json!({"metadata": {"annotations": {"acrpull.microsoft.com/refresh-requested": value}}});
        self.patch(binding, &annotation).await?;
        Ok(())
    }

    /// Deletes a binding.
    ///
    /// # Errors
    /// The API server refuses.
    pub async fn delete(&self, binding: &str) -> anyhow::Result<()> {
        let deleted = self
            .api::<AcrPullBinding>()
            .delete(binding, &DeleteParams::default())
            .await;
        deleted.with_context(|| format!("failed to delete binding {binding}"))?;
        Ok(())
    }

    /// Waits until a binding meets a condition.
    ///
    /// # Errors
    /// It does not in time; the error shows the object and the end of both logs.
    pub async fn wait_binding(
        &self,
        name: &str,
        what: &str,
        deadline: Duration,
        is_so: impl Fn(&AcrPullBinding) -> bool,
    ) -> anyhow::Result<AcrPullBinding> {
        let api = self.api::<AcrPullBinding>();
        let what = format!("binding {name} {what}");
        let waited = wait::poll(&what, deadline, async || {
            let found = api.get_opt(name).await?;
            Ok(match found {
                Some(binding) if is_so(&binding) => Ok(binding),
                Some(mut binding) => {
                    binding.metadata.managed_fields = None;
                    Err(yaml(&binding))
                }
                None => Err("it does not exist".to_owned()),
            })
        });
        waited
            .await
            .map_err(|error| anyhow!("{error:#}\n{}", self.last_logs()))
    }

    /// Waits until a binding is ready.
    ///
    /// # Errors
    /// As [`Self::wait_binding`].
    pub async fn ready(&self, name: &str) -> anyhow::Result<AcrPullBinding> {
        self.wait_binding(name, "is Ready", PATIENCE, |binding| {
            condition(binding, "Ready").is_some_and(|ready| ready.status == "True")
        })
        .await
    }

    /// Waits until a condition of a binding is False for a reason.
    ///
    /// # Errors
    /// As [`Self::wait_binding`].
    pub async fn refused(&self, name: &str, kind: &str, reason: &str) -> anyhow::Result<Condition> {
        let binding = self
            .wait_binding(
                name,
                &format!("has {kind} False for {reason}"),
                PATIENCE,
                |binding| {
                    condition(binding, kind)
                        .is_some_and(|found| found.status == "False" && found.reason == reason)
                },
            )
            .await?;
        condition(&binding, kind)
            .cloned()
            .context("the condition was there a moment ago")
    }

    /// The pull Secret of a binding, if there is one.
    ///
    /// # Errors
    /// The API server does not answer, or a kubelet could not use it.
    pub async fn pull_secret(&self, binding: &str) -> anyhow::Result<Option<PullSecret>> {
        let secret = self
            .api::<Secret>()
            .get_opt(&format!("acr-pull-{binding}"))
            .await?;
        secret.map(PullSecret::read).transpose()
    }

    /// The pull Secret of a binding that must have one.
    ///
    /// # Errors
    /// It has none, or as [`Self::pull_secret`].
    pub async fn secret(&self, binding: &str) -> anyhow::Result<PullSecret> {
        self.pull_secret(binding)
            .await?
            .with_context(|| format!("binding {binding} has no pull Secret"))
    }

    /// The pull secrets that a ServiceAccount lists, in their order.
    ///
    /// # Errors
    /// There is no such ServiceAccount.
    pub async fn links(&self, account: &str) -> anyhow::Result<Vec<String>> {
        let account = self.api::<ServiceAccount>().get(account).await?;
        Ok(account
            .image_pull_secrets
            .into_iter()
            .flatten()
            .map(|entry| entry.name)
            .collect())
    }

    /// Waits until a ServiceAccount lists exactly these.
    ///
    /// # Errors
    /// It does not in time.
    pub async fn wait_links(&self, account: &str, expected: &[&str]) -> anyhow::Result<()> {
        let what = format!("ServiceAccount {account} lists {expected:?}");
        let waited = wait::poll(&what, PATIENCE, async || {
            let links = self.links(account).await?;
            Ok(if links == expected {
                Ok(())
            } else {
                Err(format!("it lists {links:?}"))
            })
        });
        waited
            .await
            .map_err(|error| anyhow!("{error:#}\n{}", self.last_logs()))
    }

    fn last_logs(&self) -> String {
        let tail = |log: String| {
            let lines: Vec<&str> = log.lines().collect();
            let (_, last) = lines.split_at(lines.len().saturating_sub(SHOWN_LOG_LINES));
            last.join("\n")
        };
        let logs = [self.stack.broker(), self.stack.syncer()].map(|pod| {
            let log = pod.logs().unwrap_or_else(|error| error.to_string());
            // What concerns this team, of logs that all tests share.
            let own: Vec<&str> = log
                .lines()
                .filter(|line| line.contains(self.namespace()))
                .collect();
            format!(
                "--- {} about {}\n{}",
                pod.name(),
                self.namespace(),
                tail(own.join("\n"))
            )
        });
        logs.join("\n")
    }
}

/// An object as people read it.
fn yaml(object: &impl Serialize) -> String {
    serde_saphyr::to_string(object).unwrap_or_else(|error| error.to_string())
}
