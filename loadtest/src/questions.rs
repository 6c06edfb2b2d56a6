//! What is asked of the broker: real requests with real tokens, and the payload that each must be answered with.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::ensure;
use bytes::Bytes;
use proto::v1::broker_owned_identity::Selector;
use proto::v1::get_docker_config_request::Identity;
use proto::v1::{
    BindingReference, BrokerOwnedIdentity, FederatedIdentity, GetDockerConfigRequest, GetDockerConfigResponse,
};

/// One request and the payload of its answer; empty while it is not known.
#[derive(Clone)]
pub(crate) struct Question {
    pub(crate) message: GetDockerConfigRequest,
    pub(crate) payload: Bytes,
}

/// Requests for many workers to take from: again and again, or each one once.
#[derive(Clone)]
pub(crate) struct Questions {
    list: Arc<[Question]>,
    taken: Arc<AtomicUsize>,
    is_endless: bool,
}

/// What the questions of one kind have in common.
#[derive(Clone, Copy)]
pub(crate) struct Topic<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) account: &'a str,
    pub(crate) registry: &'a str,
}

impl Topic<'_> {
    /// As a syncer asks for a workload identity.
    pub(crate) fn federated(&self, number: u32, client_id: &str, subject_token: String) -> Question {
        self.question(
            number,
            Identity::Federated(FederatedIdentity {
                tenant_id: String::new(),
                client_id: client_id.to_owned(),
                subject_token,
            }),
        )
    }

    /// As a syncer asks for an identity of the broker.
    pub(crate) fn broker_owned(&self, number: u32, client_id: &str) -> Question {
        let selector = Some(Selector::ClientId(client_id.to_owned()));
        self.question(number, Identity::BrokerOwned(BrokerOwnedIdentity { selector }))
    }

    /// Question `number` is that of a binding of its own with a scope of its own.
    fn question(&self, number: u32, identity: Identity) -> Question {
        let message = GetDockerConfigRequest {
            binding: Some(BindingReference {
                namespace: self.namespace.to_owned(),
                name: format!("app-{number}"),
                uid: String::new(),
            }),
            service_accounts: vec![self.account.to_owned()],
            registry: self.registry.to_owned(),
            scopes: vec![format!("repository:team/app-{number}:pull")],
            identity: Some(identity),
            ..GetDockerConfigRequest::default()
        };
        Question {
            message,
            payload: Bytes::new(),
        }
    }
}

impl Question {
    /// Whether an answer hands out the payload, and the right one where that is known: nothing less counts.
    ///
    /// # Errors
    /// It does not.
    pub(crate) fn check(&self, answer: &GetDockerConfigResponse) -> anyhow::Result<()> {
        ensure!(
            !answer.not_modified && !answer.degraded && !answer.docker_config_json.is_empty(),
            "the answer hands out no fresh payload"
        );
        ensure!(
            self.payload.is_empty() || answer.docker_config_json == self.payload,
            "the answer has another payload than the first one to this question"
        );
        Ok(())
    }

    /// The same question, asked with another subject token.
    pub(crate) fn with_subject_token(&self, token: String) -> Self {
        let mut question = self.clone();
        if let Some(Identity::Federated(identity)) = &mut question.message.identity {
            identity.subject_token = token;
        }
        question
    }
}

impl Questions {
    /// Each is asked again and again.
    pub(crate) fn endless(list: Vec<Question>) -> Self {
        Self {
            list: list.into(),
            taken: Arc::default(),
            is_endless: true,
        }
    }

    /// Each is asked once.
    pub(crate) fn once(list: Vec<Question>) -> Self {
        Self {
            is_endless: false,
            ..Self::endless(list)
        }
    }

    /// The same requests, again and again, for a server that answers all of them with `payload`.
    pub(crate) fn answered_by(&self, payload: &Bytes) -> Self {
        let answered = |question: &Question| Question {
            payload: payload.clone(),
            ..question.clone()
        };
        Self::endless(self.list.iter().map(answered).collect())
    }

    /// Takes the next one; none if all have been taken.
    pub(crate) fn next(&self) -> Option<&Question> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        self.list.get(if self.is_endless {
            taken.checked_rem(self.list.len())?
        } else {
            taken
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> Vec<Question> {
        let topic = Topic {
            namespace: "n",
            account: "a",
            registry: "r.azurecr.io",
        };
        vec![topic.broker_owned(0, "id"), topic.broker_owned(1, "id")]
    }

    fn scopes(questions: &Questions, count: usize) -> Vec<Option<&str>> {
        (0..count)
            .map(|_| {
                questions
                    .next()
                    .map(|question| question.message.scopes[0].as_str())
            })
            .collect()
    }

    #[test]
    fn question_is_answered_by_its_payload_only() {
        let [question, _] = two().try_into().ok().unwrap();
        let known = Question {
            payload: "{1}".into(),
            ..question.clone()
        };
        let answer = |payload: &'static str| GetDockerConfigResponse {
            docker_config_json: payload.into(),
            ..GetDockerConfigResponse::default()
        };
        assert!(known.check(&answer("{1}")).is_ok());
        assert!(known.check(&answer("{2}")).is_err());
        assert!(question.check(&answer("{2}")).is_ok());
        assert!(question.check(&answer("")).is_err());
        let degraded = GetDockerConfigResponse {
            degraded: true,
            ..answer("{1}")
        };
        assert!(known.check(&degraded).is_err());
    }

    #[test]
    fn questions_endless_start_over() {
        let (first, second) = ("repository:team/app-0:pull", "repository:team/app-1:pull");
        assert_eq!(
            scopes(&Questions::endless(two()), 3),
            [Some(first), Some(second), Some(first)]
        );
        assert_eq!(scopes(&Questions::endless(Vec::new()), 1), [None]);
    }

    #[test]
    fn questions_once_run_out() {
        assert_eq!(scopes(&Questions::once(two()), 3).pop(), Some(None));
    }
}
