//! How a request would fare, check by check, in words for the people who wrote it. Takes the same decisions as a real
//! request through the same functions, asks Azure nothing and shows no token. Pure apart from the look into the caches.

pub mod checks;
mod levels;

use proto::v1;

use crate::{
    access::Role,
    authn::{AuthnError, Caller, Subject},
    authz::{self, Permit, TokenSource, grants::Decision},
    credentials::ChainState,
    error::CredentialError,
    live::Snapshot,
    own_account,
    request::{DockerConfigRequest, RequestedIdentity, SubjectToken},
};
use checks::{Check, what_there_is};

#[derive(Default)]
struct Walk {
    steps: Vec<v1::ExplainStep>,
    refusal: Option<CredentialError>,
}

/// Explains `message` to `asks`, as a request of `caller`: the same one, or for an operator the same one as if it were of
/// another cluster. An operator learns the names of identities and grants, and need not show the subject token; nobody
/// else learns more about the policy than a refusal would tell.
pub fn explain(
    reader: Role,
    asks: &Caller,
    caller: &Caller,
    message: v1::GetDockerConfigRequest,
    live: &Snapshot,
    inspect: impl FnOnce(&Permit) -> ChainState,
) -> v1::ExplainResponse {
    let mut walk = Walk::default();
    walk.step(Check::Caller, v1::Verdict::Passed, who(asks, caller));
    let levels = match walk.permit(reader, caller, message, live) {
        Ok(permit) => levels::of(&inspect(&permit)),
        Err(error) => {
            walk.refusal = Some(error);
            Vec::new()
        }
    };
    let (verdict, reason, detail) = match &walk.refusal {
        Some(error) => (
            v1::Verdict::Denied,
            error.reason.as_wire().to_owned(),
            error.message.to_string(),
        ),
        None => levels::outlook(&levels),
    };
    v1::ExplainResponse {
        verdict: verdict.into(),
        reason,
        detail,
        cluster: caller.cluster.config.name.to_string(),
        steps: walk.steps,
        cache_levels: levels,
    }
}

impl Walk {
    /// The way of a real request once its caller is known, with a step for each check.
    fn permit(
        &mut self,
        reader: Role,
        caller: &Caller,
        message: v1::GetDockerConfigRequest,
        live: &Snapshot,
    ) -> Result<Permit, CredentialError> {
        let demand = match reader {
            Role::Syncer | Role::Workload => SubjectToken::Required,
            Role::Operator => SubjectToken::Optional,
        };
        let parsed = DockerConfigRequest::parse(message, demand);
        let request = parsed.map_err(|error| self.denied(Check::Request, error.into(), &[]))?;
        self.step(Check::Request, v1::Verdict::Passed, "every field is valid");
        let checks = Check::of(&request, caller);
        let subject = self
            .subject(caller, &request, live)
            .map_err(|error| self.denied(Check::SubjectToken, error.into(), checks))?;
        if reader == Role::Workload {
            own_account::check(caller, subject.as_ref(), &request)
                .map_err(|other| self.denied(Check::OwnAccount, other.into(), checks))?;
            self.step(Check::OwnAccount, v1::Verdict::Passed, "it asks for itself");
        }
        let permit = authz::permit(caller, subject.as_ref(), &request, &live.clouds, &live.policy);
        let for_operators = || what_there_is(caller, subject.as_ref(), &request, &live.clouds, &live.policy);
        match permit {
            Ok(permit) => {
                for check in checks {
                    let text = check.passed_text(&request, Some(&permit));
                    self.step(*check, v1::Verdict::Passed, text);
                }
                if let (Role::Operator, Some(step)) = (reader, self.steps.last_mut()) {
                    match permit.decision() {
                        Decision::NotNeeded => {}
                        Decision::Granted(grant) => step.grant = grant.to_string(),
                        Decision::ReportOnly => step.detail = format!("{}; {}", step.detail, for_operators()),
                    }
                    step.detail.push_str(&way_of(&permit));
                }
                Ok(permit)
            }
            Err(denied) => {
                let at = Check::that_denies(&denied);
                let before = checks.iter().take_while(|check| **check != at);
                for check in before.clone() {
                    self.step(*check, v1::Verdict::Passed, check.passed_text(&request, None));
                }
                let error = CredentialError::from(denied);
                let error = match (reader, at) {
                    (Role::Operator, Check::Grant) => CredentialError {
                        message: format!("{}; {}", error.message, for_operators()).into(),
                        ..error
                    },
                    _ => error,
                };
                let after = checks.get(before.count() + 1..).unwrap_or_default();
                Err(self.denied(at, error, after))
            }
        }
    }

    /// The ServiceAccount that a federated request acts for.
    fn subject(
        &mut self,
        caller: &Caller,
        request: &DockerConfigRequest,
        live: &Snapshot,
    ) -> Result<Option<Subject>, AuthnError> {
        let RequestedIdentity::Federated { subject_token, .. } = &request.identity else {
            return Ok(None);
        };
        if subject_token.is_empty() {
            let name = request.service_accounts.first().cloned().unwrap_or_default();
            let subject = format!("system:serviceaccount:{}:{name}", request.namespace);
            let text = format!(
                "none was sent; what follows is for a token of {subject} for the first subject audience"
            );
            self.step(Check::SubjectToken, v1::Verdict::Assumed, text);
            return Ok(Some(Subject {
                subject: subject.into(),
                namespace: request.namespace.as_str().into(),
                name: name.into(),
                audiences: caller
                    .cluster
                    .config
                    .subject_audiences
                    .iter()
                    .take(1)
                    .cloned()
                    .collect(),
            }));
        }
        let subject = live.authenticator.subject(subject_token.expose(), caller)?;
        let text = format!("of {}", subject.subject);
        self.step(Check::SubjectToken, v1::Verdict::Passed, text);
        Ok(Some(subject))
    }

    fn step(&mut self, check: Check, verdict: v1::Verdict, detail: impl Into<String>) {
        self.steps.push(v1::ExplainStep {
            name: check.as_str().to_owned(),
            verdict: verdict.into(),
            detail: detail.into(),
            ..v1::ExplainStep::default()
        });
    }

    /// A check that says no, and those that are not made because of it.
    fn denied(&mut self, check: Check, error: CredentialError, after: &[Check]) -> CredentialError {
        self.steps.push(v1::ExplainStep {
            name: check.as_str().to_owned(),
            verdict: v1::Verdict::Denied.into(),
            reason: error.reason.as_wire().to_owned(),
            detail: error.message.to_string(),
            help_url: error.reason.help_url(),
            ..v1::ExplainStep::default()
        });
        for check in after {
            self.step(*check, v1::Verdict::NotReached, "an earlier check said no");
        }
        error
    }
}

fn who(asks: &Caller, caller: &Caller) -> String {
    let (own, other) = (&asks.cluster.config.name, &caller.cluster.config.name);
    if own == other {
        format!("{}, of cluster {own}", asks.subject)
    } else {
        format!("{}, of cluster {own}, on behalf of cluster {other}", asks.subject)
    }
}

/// How the broker's identity gets to a registry token. For operators.
fn way_of(permit: &Permit) -> String {
    match permit.source() {
        TokenSource::Federated { .. } => String::new(),
        TokenSource::BrokerOwned(identity) => format!("; identity {} {}", identity.name, identity.way()),
    }
}

#[cfg(test)]
mod tests;
