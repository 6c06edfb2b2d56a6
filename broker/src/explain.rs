//! How a request would fare, check by check, in words for the people who wrote it. Takes the same decisions as a real
//! request through the same functions, asks Azure nothing and shows no token. Pure apart from the look into the caches.

mod levels;

use proto::v1;

use crate::{
    access::Role,
    authn::{AuthnError, Caller, Subject},
    authz::{self, Denied, Permit, TokenSource},
    config::Policy,
    credentials::ChainState,
    error::CredentialError,
    live::Snapshot,
    own_account,
    request::{DockerConfigRequest, IdentitySelector, RequestedIdentity, SubjectToken},
};

/// Grants that are named to an operator at most; more than this nobody reads.
const MAX_NAMED_GRANTS: usize = 20;

/// What is checked, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Caller,
    Request,
    SubjectToken,
    OwnAccount,
    Cloud,
    Registry,
    Namespace,
    Tenant,
    Grant,
}

/// The checks that the policy makes of a request, in the order in which [`authz::permit`] makes them.
const FEDERATED: &[Check] = &[Check::Cloud, Check::Registry, Check::Namespace, Check::Tenant];
const BROKER_OWNED: &[Check] = &[Check::Cloud, Check::Registry, Check::Grant];

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
        let checks = match &request.identity {
            RequestedIdentity::Federated { .. } => FEDERATED,
            RequestedIdentity::BrokerOwned(_) => BROKER_OWNED,
        };
        let subject = self
            .subject(caller, &request, live)
            .map_err(|error| self.denied(Check::SubjectToken, error.into(), checks))?;
        if reader == Role::Workload {
            own_account::check(caller, subject.as_ref(), &request)
                .map_err(|other| self.denied(Check::OwnAccount, other.into(), checks))?;
            self.step(Check::OwnAccount, v1::Verdict::Passed, "it asks for itself");
        }
        let permit = authz::permit(caller, subject.as_ref(), &request, &live.clouds, &live.policy);
        match permit {
            Ok(permit) => {
                for check in checks {
                    self.step(
                        *check,
                        v1::Verdict::Passed,
                        passed_text(*check, &request, Some(&permit)),
                    );
                }
                if reader == Role::Operator
                    && let (Some(grant), Some(step)) = (permit.grant(), self.steps.last_mut())
                {
                    grant.clone_into(&mut step.grant);
                    step.detail.push_str(&way_of(&permit));
                }
                Ok(permit)
            }
            Err(denied) => {
                let at = check_of(&denied);
                let before = checks.iter().take_while(|check| **check != at);
                for check in before.clone() {
                    self.step(*check, v1::Verdict::Passed, passed_text(*check, &request, None));
                }
                let error = CredentialError::from(denied);
                let error = match (reader, at) {
                    (Role::Operator, Check::Grant) => CredentialError {
                        message: format!("{}; {}", error.message, near(&request, &live.policy)).into(),
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

impl Check {
    /// Its name in the answer.
    const fn as_str(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Request => "request",
            Self::SubjectToken => "subject_token",
            Self::OwnAccount => "own_account",
            Self::Cloud => "cloud",
            Self::Registry => "registry",
            Self::Namespace => "namespace",
            Self::Tenant => "tenant",
            Self::Grant => "grant",
        }
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

fn check_of(denied: &Denied) -> Check {
    match denied {
        Denied::Cloud => Check::Cloud,
        Denied::RegistryDomain { .. } | Denied::RegistryCeiling(_) => Check::Registry,
        Denied::OtherNamespace(_) => Check::Namespace,
        Denied::NoTenant | Denied::TenantCeiling(_) => Check::Tenant,
        Denied::NoGrant { .. } => Check::Grant,
    }
}

fn passed_text(check: Check, request: &DockerConfigRequest, permit: Option<&Permit>) -> String {
    match check {
        Check::Cloud => "the broker's configuration lists it".to_owned(),
        Check::Registry => format!("{} is one that this cluster may use", request.registry),
        Check::Namespace => format!(
            "the ServiceAccount is of the binding's namespace {}",
            request.namespace
        ),
        Check::Tenant => match permit.map(Permit::source) {
            Some(TokenSource::Federated { tenant, .. }) => {
                format!("{tenant} is one that this cluster may use")
            }
            Some(TokenSource::BrokerOwned(_)) | None => "it is one that this cluster may use".to_owned(),
        },
        Check::Grant => "a grant allows all of it".to_owned(),
        Check::Caller | Check::Request | Check::SubjectToken | Check::OwnAccount => String::new(),
    }
}

/// How the broker's identity gets to a registry token. For operators.
fn way_of(permit: &Permit) -> String {
    match permit.source() {
        TokenSource::Federated { .. } => String::new(),
        TokenSource::BrokerOwned(identity) => format!("; identity {} {}", identity.name, identity.way()),
    }
}

/// What there is where no grant allows a request. For operators: a caller must not learn what is declared.
fn near(request: &DockerConfigRequest, policy: &Policy) -> String {
    let RequestedIdentity::BrokerOwned(selector) = &request.identity else {
        return "the identity is federated".to_owned();
    };
    let named = match selector {
        IdentitySelector::ClientId(id) => format!("client id {id}"),
        IdentitySelector::ResourceId(id) => format!("resource id {id}"),
    };
    let Some(identity) = policy
        .identities
        .iter()
        .find(|identity| authz::names(selector, identity))
    else {
        return format!("no identity with {named} is declared");
    };
    let grants: Vec<&str> = policy
        .grants
        .iter()
        .filter(|grant| grant.identity == identity.name)
        .map(|grant| &*grant.name)
        .take(MAX_NAMED_GRANTS)
        .collect();
    if grants.is_empty() {
        return format!("identity {} is declared, and no grant is for it", identity.name);
    }
    format!(
        "identity {} is declared, and of its grants ({}) none allows this cloud, cluster, namespace, ServiceAccounts, \
         registry and scope together",
        identity.name,
        grants.join(", ")
    )
}

#[cfg(test)]
mod tests;
