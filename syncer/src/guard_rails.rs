//! Whether the admission policies that bound the syncer's rights are really there: forbidden writes are tried as dry runs,
//! by the syncer itself, and an alarm is raised for each that goes through.
//!
//! Policies and their bindings are objects that somebody can delete; nothing fails then, and the syncer, or whoever has
//! stolen its token, can read every Secret of the cluster. A dry run passes admission like any write and leaves nothing.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::{Secret, ServiceAccount},
    },
};
use kube::{
    Api, Client, Resource,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use runtime::Shutdown;
use serde_json::json;

use crate::{
    kube_calls::{KubeCalls, KubeError, Verb},
    leadership::Authority,
    metrics::Metrics,
};

/// A policy takes effect about a second after it was made, and may have been made together with this process.
const BEFORE_THE_FIRST: Duration = Duration::from_secs(5);
/// Between two looks, where the first finds a right unbounded: an alarm is for what stays.
const BEFORE_AN_ALARM: Duration = Duration::from_secs(5);
/// Three small calls, and policies do not change often.
const PERIOD: Duration = Duration::from_secs(30 * 60);
/// Sooner, while the API server does not say.
const PERIOD_WHILE_UNKNOWN: Duration = Duration::from_secs(60);
/// Every namespace has a ServiceAccount of this name.
const ACCOUNT: &str = "default";
/// No service has this audience (RFC 2606): were such a token issued, it would be of no use.
const NO_AUDIENCE: &str = "acrpull-guard-rails.invalid";
const NAME: &str = "acrpull-guard-rails";

/// A right of the syncer's role that reaches further than it should, by its resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Any Secret, those with tokens of other ServiceAccounts included.
    Secrets,
    /// Any change to a ServiceAccount.
    ServiceAccounts,
    /// A token of any ServiceAccount for any service.
    Tokens,
}

/// What a forbidden dry run has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// Refused by a policy.
    Bounded,
    /// Let through.
    Unbounded,
    /// No answer that says either. That the role itself does not allow it in one namespace says nothing of others.
    Unknown,
}

/// Tries forbidden writes.
#[derive(Clone)]
pub struct GuardRails {
    client: Client,
    calls: KubeCalls,
    metrics: Metrics,
    /// None means that of the process.
    namespaces: Vec<String>,
}

impl Right {
    /// Each.
    pub const ALL: [Self; 3] = [Self::Secrets, Self::ServiceAccounts, Self::Tokens];

    /// As RBAC calls the resource.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Secrets => "secrets",
            Self::ServiceAccounts => "serviceaccounts",
            Self::Tokens => "serviceaccounts/token",
        }
    }
}

impl GuardRails {
    /// Tries nothing yet.
    pub fn new(client: Client, calls: KubeCalls, metrics: Metrics) -> Self {
        Self {
            client,
            calls,
            metrics,
            namespaces: Vec::new(),
        }
    }

    /// Tries in these namespaces, where the process has its rights only in some. A policy is about all of them, so the
    /// first that says anything is enough.
    #[must_use]
    pub fn in_namespaces<'a>(mut self, namespaces: impl Iterator<Item = &'a str>) -> Self {
        self.namespaces = namespaces.map(str::to_owned).collect();
        self
    }

    /// Looks now and then, until shutdown; the leader alone, because the rights are those of all replicas.
    pub async fn watch(self, authority: Authority, shutdown: Shutdown) {
        let look = async {
            authority.given().await;
            self.look_on_and_on().await;
        };
        tokio::select! {
            () = shutdown.started() => {}
            () = look => {}
        }
    }

    async fn look_on_and_on(&self) {
        tokio::time::sleep(BEFORE_THE_FIRST).await;
        loop {
            let mut findings = self.findings().await;
            if findings
                .iter()
                .any(|(_right, finding)| *finding == Finding::Unbounded)
            {
                tokio::time::sleep(BEFORE_AN_ALARM).await;
                findings = self.findings().await;
            }
            let mut wait = PERIOD;
            for (right, finding) in findings {
                match finding {
                    Finding::Bounded => self.metrics.right_is_unbounded(right.as_str(), false),
                    Finding::Unbounded => self.alarm(right),
                    Finding::Unknown => wait = PERIOD_WHILE_UNKNOWN,
                }
            }
            tokio::time::sleep(wait).await;
        }
    }

    fn alarm(&self, right: Right) {
        self.metrics.right_is_unbounded(right.as_str(), true);
        tracing::error!(
            right = right.as_str(),
            "no admission policy bounds this right of the syncer: install those of its chart \
             (admissionPolicies.enabled), without them it can read every Secret of the cluster"
        );
    }

    /// What a forbidden write of each kind meets now.
    pub async fn findings(&self) -> [(Right, Finding); 3] {
        let [secrets, accounts, tokens] = Right::ALL;
        [
            (secrets, self.look(secrets).await),
            (accounts, self.look(accounts).await),
            (tokens, self.look(tokens).await),
        ]
    }

    async fn look(&self, right: Right) -> Finding {
        if self.namespaces.is_empty() {
            return judge(&self.try_in(None, right).await);
        }
        for namespace in &self.namespaces {
            let tried = self.try_in(Some(namespace), right).await;
            let finding = judge(&tried);
            // It was deleted, or its Role was. A server that does not answer is not asked for each.
            let is_of_this_one = tried.is_err_and(|error| [403, 404].contains(&error.code()));
            if finding != Finding::Unknown || !is_of_this_one {
                return finding;
            }
        }
        Finding::Unknown
    }

    async fn try_in(&self, namespace: Option<&str>, right: Right) -> Result<(), KubeError> {
        match right {
            Right::Secrets => self.try_secret(self.api(namespace)).await,
            Right::ServiceAccounts => self.try_account(self.api(namespace)).await,
            Right::Tokens => self.try_token(self.api(namespace)).await,
        }
    }

    fn api<K>(&self, namespace: Option<&str>) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        let client = self.client.clone();
        match namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::default_namespaced(client),
        }
    }

    /// Whether an admission policy, and not only the role, keeps the syncer from Secrets of others in the namespace. No,
    /// as long as that is not known.
    pub async fn bound_secrets_in(&self, namespace: &str) -> bool {
        let secrets = Api::namespaced(self.client.clone(), namespace);
        let tried = self.try_secret(secrets).await;
        tried.is_err_and(|error| error.is_denied_by_policy())
    }

    async fn try_secret(&self, secrets: Api<Secret>) -> Result<(), KubeError> {
        let forbidden = Secret {
            metadata: ObjectMeta {
                name: Some(NAME.to_owned()),
                annotations: Some(BTreeMap::from([(
                    "kubernetes.io/service-account.name".to_owned(),
                    ACCOUNT.to_owned(),
                )])),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/service-account-token".to_owned()),
            ..Secret::default()
        };
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let call = secrets.create(&dry, &forbidden);
        self.calls
            .call(Verb::Create, "secrets", call)
            .await
            .map(|_answer| ())
    }

    async fn try_account(&self, accounts: Api<ServiceAccount>) -> Result<(), KubeError> {
        let forbidden = Patch::Merge(json!({ "metadata": { "labels": { NAME: "forbidden" } } }));
        let dry = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let call = accounts.patch_metadata(ACCOUNT, &dry, &forbidden);
        self.calls
            .call(Verb::Patch, "serviceaccounts", call)
            .await
            .map(|_answer| ())
    }

    async fn try_token(&self, accounts: Api<ServiceAccount>) -> Result<(), KubeError> {
        let forbidden = TokenRequest {
            spec: TokenRequestSpec {
                audiences: vec![NO_AUDIENCE.to_owned()],
                ..TokenRequestSpec::default()
            },
            ..TokenRequest::default()
        };
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let call = accounts.create_token_request(ACCOUNT, &dry, &forbidden);
        self.calls
            .call(Verb::Create, "serviceaccounts/token", call)
            .await
            .map(|_answer| ())
    }
}

fn judge(tried: &Result<(), KubeError>) -> Finding {
    match tried {
        Ok(()) => Finding::Unbounded,
        Err(error) if error.is_denied_by_policy() => Finding::Bounded,
        Err(_unclear) => Finding::Unknown,
    }
}

#[cfg(test)]
mod tests;
