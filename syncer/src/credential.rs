//! Asks the broker for the credential of a binding. What it answers is read in `credential::answer`.
//!
//! For a federated identity the ServiceAccount's token is minted here, right before the question, and dropped right
//! after: it is never kept, logged or reused.

mod answer;
mod mint;

use kube::ResourceExt as _;
use proto::v1::{
    BindingReference, BrokerOwnedIdentity, FederatedIdentity, GetDockerConfigRequest, HeldCredential,
    broker_owned_identity::Selector, get_docker_config_request,
};
use runtime::never_shown;

pub use answer::{Answer, read};

use self::mint::mint;
use crate::{
    binding::Binding,
    context::Context,
    plan::Issue,
    problem::Problem,
    turns::{Turn, Urgency},
    wanted::Identity,
};

/// A question that can be put at once: it has its turn, and the token that proves the identity.
pub struct Question {
    _open: Turn,
    request: GetDockerConfigRequest,
}

never_shown!(Answer, Question);

/// Waits for its turn, then mints the token if one is needed. A bounded number of questions is open at a time; none of
/// them occupies a worker.
///
/// # Errors
/// The token could not be minted.
///
/// # Cancel safety
/// Cancel safe: the turn is given back, the token dropped.
pub async fn prepare(
    context: &Context,
    binding: &Binding,
    issue: &Issue,
    urgency: Urgency,
) -> Result<Question, Problem> {
    let open = context.limits.question(urgency).await;
    let identity = match &issue.wanted.identity {
        Identity::ClientId(id) => broker_owned(Selector::ClientId(id.to_string())),
        Identity::ResourceId(id) => broker_owned(Selector::ResourceId(id.to_string())),
        Identity::Federated {
            service_account,
            client_id,
            tenant_id,
        } => {
            let token = Box::pin(mint(context, binding, service_account)).await?;
            get_docker_config_request::Identity::Federated(FederatedIdentity {
                tenant_id: tenant_id.as_ref().map(ToString::to_string).unwrap_or_default(),
                client_id: client_id.to_string(),
                subject_token: token.expose().to_owned(),
            })
        }
    };
    Ok(Question {
        _open: open,
        request: request(binding, issue, identity),
    })
}

impl Question {
    /// Asks.
    ///
    /// # Errors
    /// The broker refused, failed or could not be reached.
    ///
    /// # Cancel safety
    /// Cancel safe: the answer is lost, and the broker keeps what it fetched for the next question.
    pub async fn put(self, context: &Context, issue: &Issue) -> Result<Answer, Problem> {
        let response = context.broker.get_docker_config(self.request).await?;
        read(response, issue, context.now(), rand::random())
    }
}

fn broker_owned(selector: Selector) -> get_docker_config_request::Identity {
    get_docker_config_request::Identity::BrokerOwned(BrokerOwnedIdentity {
        selector: Some(selector),
    })
}

fn request(
    binding: &Binding,
    issue: &Issue,
    identity: get_docker_config_request::Identity,
) -> GetDockerConfigRequest {
    GetDockerConfigRequest {
        binding: Some(BindingReference {
            namespace: binding.namespace().unwrap_or_default(),
            name: binding.name_any(),
            uid: binding.uid().unwrap_or_default(),
        }),
        service_accounts: binding.spec.accounts().into_iter().map(str::to_owned).collect(),
        registry: issue.wanted.registry.to_string(),
        scopes: issue.wanted.scopes.iter().map(ToString::to_string).collect(),
        cloud: Some(issue.wanted.cloud.clone()),
        identity: Some(identity),
        min_remaining: None,
        held: issue.held.as_ref().map(|held| HeldCredential {
            fingerprint: held.fingerprint.as_bytes().to_vec().into(),
            expire_time: Some(pbjson_types::Timestamp {
                seconds: held.expires_at.as_second(),
                nanos: 0,
            }),
        }),
        rejected_fingerprint: Vec::new().into(),
        force: issue.force,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        binding::ApiVersion,
        samples::{binding_of, key, older_binding, older_spec},
        wanted,
    };

    fn asked(binding: &Binding, held: Option<crate::pull_secret::Credential>) -> GetDockerConfigRequest {
        let issue = Issue {
            wanted: wanted::read(binding, None).unwrap(),
            held,
            force: false,
            request: None,
        };
        request(binding, &issue, broker_owned(Selector::ClientId("id".to_owned())))
    }

    #[test]
    fn question_says_who_asks_for_what_and_what_is_held() {
        let held = answer::tests::held();
        for api in ApiVersion::ALL {
            let binding = binding_of(api, "web");
            assert_eq!(binding.key(), key(api, "web"));
            let request = asked(&binding, Some(held.clone()));
            assert_eq!(request.binding.unwrap().uid, "uid-of-web");
            assert_eq!(request.service_accounts, ["web"]);
            assert_eq!(request.registry, "prod.azurecr.io");
            assert_eq!(request.scopes, ["repository:team/web:pull"]);
            assert_eq!(request.cloud.unwrap().name, "PublicCloud");
            let told = request.held.unwrap();
            assert_eq!(told.fingerprint.as_ref(), held.fingerprint.as_bytes());
            assert_eq!(told.expire_time.unwrap().seconds, held.expires_at.as_second());
        }
    }

    #[test]
    fn question_names_every_account_once() {
        let mut binding = binding_of(ApiVersion::V1Beta2, "web");
        binding.spec.service_account_names = vec!["worker".to_owned(), "batch".to_owned(), "web".to_owned()];
        assert_eq!(asked(&binding, None).service_accounts, ["web", "batch", "worker"]);
    }

    #[test]
    fn question_of_an_older_binding_that_names_little_is_for_the_whole_registry_and_account_default() {
        let mut spec = older_spec();
        spec.scope = Some(String::new());
        spec.service_account_name = None;
        let request = asked(&older_binding("web", spec), None);
        assert_eq!(request.scopes, [""; 0]);
        assert_eq!(request.service_accounts, ["default"]);
    }
}
