//! Asks the broker for the credential of a binding, and reads the answer.
//!
//! For a federated identity the ServiceAccount's token is minted here, right before the question, and dropped right
//! after: it is never kept, logged or reused.

use k8s_openapi::{
    api::{
        authentication::v1::{TokenRequest, TokenRequestSpec},
        core::v1::ServiceAccount,
    },
    jiff::Timestamp,
};
use kube::{Api, ResourceExt as _, api::PostParams};
use proto::{
    Fingerprint, Reason,
    v1::{
        BindingReference, BrokerOwnedIdentity, FederatedIdentity, GetDockerConfigRequest,
        GetDockerConfigResponse, HeldCredential, broker_owned_identity::Selector, get_docker_config_request,
    },
};
use runtime::{Secret, never_shown};
use tokio::sync::SemaphorePermit;
use tracing::Instrument as _;

use crate::{
    context::Context, crd::AcrPullBinding, kube_calls::Verb, plan::Issue, problem::Problem,
    pull_secret::Credential, schedule, wanted::Identity,
};

/// Life of a minted token, in seconds: the least that Kubernetes grants, and all that one question needs.
const TOKEN_SECONDS: i64 = 600;

/// What the broker answered.
pub struct Answer {
    /// What the Secret holds after this.
    pub credential: Credential,
    /// The payload; none if the Secret holds it already.
    pub payload: Option<Vec<u8>>,
    /// Azure did not renew the credential although it was due.
    pub degraded: bool,
    /// What the registry granted.
    pub granted_scope: String,
}

/// A question that can be put at once: it has its slot, and the token that proves the identity.
pub struct Question<'a> {
    _open: Option<SemaphorePermit<'a>>,
    request: GetDockerConfigRequest,
}

never_shown!(Answer, Question<'_>);

/// Waits for a slot, then mints the token if one is needed. At most the configured number of questions is open at a
/// time; none of them occupies a worker.
///
/// # Errors
/// The token could not be minted.
///
/// # Cancel safety
/// Cancel safe: the slot is given back, the token dropped.
pub async fn prepare<'a>(
    context: &'a Context,
    binding: &AcrPullBinding,
    issue: &Issue,
) -> Result<Question<'a>, Problem> {
    let open = context.limits.question().await;
    let identity = match &issue.wanted.identity {
        Identity::ClientId(id) => broker_owned(Selector::ClientId(id.to_string())),
        Identity::ResourceId(id) => broker_owned(Selector::ResourceId(id.to_string())),
        Identity::Federated {
            service_account,
            client_id,
            tenant_id,
        } => {
            let token = mint(context, binding, service_account).await?;
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

impl Question<'_> {
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
    binding: &AcrPullBinding,
    issue: &Issue,
    identity: get_docker_config_request::Identity,
) -> GetDockerConfigRequest {
    GetDockerConfigRequest {
        binding: Some(BindingReference {
            namespace: binding.namespace().unwrap_or_default(),
            name: binding.name_any(),
            uid: binding.uid().unwrap_or_default(),
        }),
        service_accounts: vec![binding.spec.service_account_name.clone()],
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

/// A token of the ServiceAccount for the federation audience.
async fn mint(context: &Context, binding: &AcrPullBinding, service_account: &str) -> Result<Secret, Problem> {
    let _worker = context.limits.worker().await;
    let api: Api<ServiceAccount> =
        Api::namespaced(context.client.clone(), &binding.namespace().unwrap_or_default());
    let wanted = TokenRequest {
        spec: TokenRequestSpec {
            audiences: vec![context.token_audience.clone()],
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: None,
        },
        ..TokenRequest::default()
    };
    let params = PostParams::default();
    let span = tracing::info_span!(
        "POST serviceaccounts/{name}/token",
        otel.kind = "client",
        serviceaccount.name = service_account
    );
    let call = api.create_token_request(service_account, &params, &wanted);
    let minted = context
        .calls
        .call(Verb::Create, "serviceaccounts/token", call)
        .instrument(span)
        .await;
    let minted = minted.map_err(|error| {
        if error.is_not_found() {
            Problem::new(
                Reason::ServiceAccountNotFound,
                format!("ServiceAccount {service_account} of spec.auth.workloadIdentity does not exist"),
            )
        } else {
            error.into_problem(&format!("request a token of ServiceAccount {service_account}"))
        }
    })?;
    Ok(Secret::from(
        minted.status.map(|status| status.token).unwrap_or_default(),
    ))
}

/// Reads the answer. What is not as the contract says is a fault of the broker and never reaches a Secret.
fn read(
    response: GetDockerConfigResponse,
    issue: &Issue,
    now: Timestamp,
    draw: f64,
) -> Result<Answer, Problem> {
    let broken = |what: &str| Problem::new(Reason::Internal, format!("the broker's answer {what}"));
    let time = |time: Option<pbjson_types::Timestamp>| {
        time.and_then(|time| Timestamp::new(time.seconds, time.nanos).ok())
            .ok_or_else(|| broken("lacks a time"))
    };
    let GetDockerConfigResponse {
        docker_config_json: payload,
        not_modified,
        expire_time,
        refresh_time,
        granted_scopes,
        fingerprint,
        degraded,
    } = response;
    let expires_at = time(expire_time)?;
    let refresh_at = schedule::refresh_at(time(refresh_time)?, expires_at, now, draw);
    let granted_scope = granted_scopes.join(" ");
    let keep = |held: &Credential| Answer {
        credential: Credential {
            refresh_at,
            ..held.clone()
        },
        payload: None,
        degraded,
        granted_scope: granted_scope.clone(),
    };
    if not_modified {
        return issue
            .held
            .as_ref()
            .map(keep)
            .ok_or_else(|| broken("refers to a credential that nobody holds"));
    }
    if payload.is_empty() || expires_at <= now {
        return Err(broken("holds no valid credential"));
    }
    let credential = Credential {
        inputs: issue.wanted.inputs.clone(),
        fingerprint: Fingerprint::of(&payload),
        refreshed_at: now,
        expires_at,
        refresh_at,
    };
    if credential.fingerprint.as_bytes() != fingerprint.as_ref() {
        return Err(broken("does not match its fingerprint"));
    }
    match &issue.held {
        // A replica that holds an older token must not take time away from the Secret.
        Some(held) if expires_at <= held.expires_at => Ok(keep(held)),
        Some(_) | None => Ok(Answer {
            credential,
            payload: Some(payload.to_vec()),
            degraded,
            granted_scope,
        }),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan as _;

    use super::*;
    use crate::{
        samples::{annotated_account, binding, now, workload_identity_spec},
        wanted,
    };

    fn issue(held: Option<Credential>) -> Issue {
        let wanted = wanted::read(&workload_identity_spec(), Some(&annotated_account("puller"))).unwrap();
        Issue {
            wanted,
            held,
            force: false,
            request: None,
        }
    }

    fn held() -> Credential {
        Credential {
            inputs: "same".to_owned(),
            fingerprint: Fingerprint::of(b"held"),
            refreshed_at: now() - 50.minutes(),
            expires_at: now() + 25.minutes(),
            refresh_at: now(),
        }
    }

    fn response(payload: &'static [u8], expires_in_minutes: i64) -> GetDockerConfigResponse {
        let at = |minutes: i64| {
            Some(pbjson_types::Timestamp {
                seconds: now().as_second() + minutes * 60,
                nanos: 0,
            })
        };
        GetDockerConfigResponse {
            docker_config_json: payload.into(),
            not_modified: false,
            expire_time: at(expires_in_minutes),
            refresh_time: at(expires_in_minutes / 2),
            granted_scopes: vec!["repository:a:pull".to_owned(), "repository:b:pull".to_owned()],
            fingerprint: Fingerprint::of(payload).as_bytes().to_vec().into(),
            degraded: false,
        }
    }

    #[test]
    fn answer_with_a_newer_credential_is_taken() {
        let answer = read(response(b"new", 75), &issue(Some(held())), now(), 0.0).unwrap();
        assert_eq!(answer.payload.as_deref(), Some(b"new".as_slice()));
        assert_eq!(answer.credential.expires_at, now() + 75.minutes());
        assert_eq!(answer.credential.refresh_at, now() + 37.minutes());
        assert_eq!(answer.credential.refreshed_at, now());
        assert_eq!(answer.granted_scope, "repository:a:pull repository:b:pull");
    }

    #[test]
    fn answer_not_modified_moves_the_refresh_only() {
        let not_modified = GetDockerConfigResponse {
            not_modified: true,
            docker_config_json: b"".as_slice().into(),
            ..response(b"", 25)
        };
        let answer = read(not_modified.clone(), &issue(Some(held())), now(), 0.0).unwrap();
        assert!(answer.payload.is_none());
        assert_eq!(
            answer.credential,
            Credential {
                refresh_at: now() + 12.minutes(),
                ..held()
            }
        );
        assert_eq!(
            read(not_modified, &issue(None), now(), 0.0).err().unwrap().reason,
            Reason::Internal
        );
    }

    #[test]
    fn s8_answer_that_expires_earlier_than_the_secret_is_left() {
        let answer = read(response(b"older", 20), &issue(Some(held())), now(), 0.0).unwrap();
        assert!(answer.payload.is_none());
        assert_eq!(answer.credential.expires_at, held().expires_at);
        assert!(answer.credential.refresh_at > now());
    }

    #[test]
    fn answer_that_breaks_the_contract_is_refused() {
        let breaks: [fn(&mut GetDockerConfigResponse); 5] = [
            |response| response.expire_time = None,
            |response| response.refresh_time = None,
            |response| response.docker_config_json = b"".as_slice().into(),
            |response| response.fingerprint = b"other".as_slice().into(),
            |response| response.expire_time = Some(pbjson_types::Timestamp { seconds: 0, nanos: 0 }),
        ];
        for break_it in breaks {
            let mut broken = response(b"new", 75);
            break_it(&mut broken);
            assert_eq!(
                read(broken, &issue(None), now(), 0.0).err().unwrap().reason,
                Reason::Internal
            );
        }
    }

    #[test]
    fn question_says_who_asks_for_what_and_what_is_held() {
        let binding = binding("web", workload_identity_spec());
        let request = request(
            &binding,
            &issue(Some(held())),
            broker_owned(Selector::ClientId("id".to_owned())),
        );
        assert_eq!(request.binding.unwrap().uid, "uid-of-web");
        assert_eq!(request.service_accounts, ["web"]);
        assert_eq!(request.registry, "prod.azurecr.io");
        assert_eq!(request.scopes, ["repository:team/web:pull"]);
        let told = request.held.unwrap();
        assert_eq!(told.fingerprint.as_ref(), held().fingerprint.as_bytes());
        assert_eq!(told.expire_time.unwrap().seconds, held().expires_at.as_second());
    }
}
