//! The calls, whatever wire they come over: admit (who, and whether at all), parse, authorize, fetch, answer.
//!
//! `grpc` and `http` only decode and encode; there is no second implementation of anything.

mod answer;
mod record;

use std::sync::Arc;

use http::HeaderMap;
use proto::{
    MAX_DEADLINE, Reason,
    v1::{
        ExplainRequest, ExplainResponse, GetAccessTokenRequest, GetAccessTokenResponse,
        GetDockerConfigRequest, GetDockerConfigResponse, InvalidateRequest, InvalidateResponse,
        ListClustersRequest, ListClustersResponse, TokenKind,
    },
};
use runtime::Secret;
use tokio::time::{Instant, timeout_at};

use crate::{
    access::{self, Admits, Role, Rule},
    authn::{AuthnError, Caller, TokenError},
    authz::{self, Permit, grants::Decision},
    credentials::{Credential, Credentials},
    error::CredentialError,
    explain, fleet, grpc,
    live::{Live, Snapshot},
    metrics::{Metrics, WireFormat},
    request::{DockerConfigRequest, InvalidField, RequestedIdentity},
};
pub use answer::Answer;
pub use record::Record;

/// What both wires serve. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Parts>);

/// A call that the gate has let through: who makes it, and the configuration that it is answered by from here on.
#[derive(Clone)]
pub struct Admitted {
    caller: Caller,
    /// To authenticate it again, should the configuration change before a credential is answered.
    bearer: Secret,
    admits: Admits,
    live: Arc<Snapshot>,
    /// From when the headers were there; the body takes of it.
    deadline: Instant,
    record: Record,
}

struct Parts {
    live: Live,
    credentials: Credentials,
    metrics: Metrics,
}

impl Admitted {
    /// The cluster of the caller.
    pub fn cluster(&self) -> &Arc<str> {
        &self.caller.cluster.config.name
    }

    /// Where the outcome goes.
    pub fn record(&self) -> &Record {
        &self.record
    }
}

impl Service {
    /// Puts the parts together.
    pub fn new(live: Live, credentials: Credentials, metrics: Metrics) -> Self {
        Self(Arc::new(Parts {
            live,
            credentials,
            metrics,
        }))
    }

    /// Authenticates the caller of a call by the headers, and checks its role. The body is not needed for that.
    ///
    /// # Errors
    /// The token is not accepted, or the caller has no role that the call admits.
    pub fn admit(
        &self,
        wire: WireFormat,
        rule: &Rule,
        headers: &HeaderMap,
    ) -> Result<Admitted, CredentialError> {
        let record = Record::open(self.0.metrics.clone(), wire, rule.call);
        let live = self.0.live.current();
        let bearer = bearer_token(headers)
            .ok_or_else(|| AuthnError::Caller(TokenError::Missing).into())
            .inspect_err(|error| record.turn_away(error))?;
        let caller = authenticated(&live, bearer).inspect_err(|error| record.turn_away(error))?;
        check_role(&caller, &rule.admits).inspect_err(|error| record.fail(error))?;
        let asked = match wire {
            WireFormat::Grpc => grpc::deadline(headers),
            WireFormat::Http => None,
        };
        Ok(Admitted {
            caller,
            bearer: bearer.to_owned().into(),
            admits: rule.admits,
            live,
            deadline: Instant::now() + asked.unwrap_or(MAX_DEADLINE).min(MAX_DEADLINE),
            record,
        })
    }

    /// Makes a call within its deadline, and records how it went. `message` is what the wire could decode, or why it
    /// could not.
    ///
    /// # Errors
    /// Those of the message, of the call, and the deadline.
    pub async fn serve<Q, A, F>(
        self,
        admitted: Admitted,
        message: Result<Q, CredentialError>,
        call: fn(Self, Admitted, Q) -> F,
    ) -> Result<A, CredentialError>
    where
        A: Answer,
        F: Future<Output = Result<A, CredentialError>>,
    {
        let (deadline, record) = (admitted.deadline, admitted.record.clone());
        let answered = match message {
            Ok(message) => timeout_at(deadline, call(self, admitted, message))
                .await
                .unwrap_or_else(|_elapsed| Err(CredentialError::titled(Reason::DeadlineExceeded))),
            Err(error) => Err(error),
        };
        match &answered {
            Ok(answer) => record.settle(answer.outcome()),
            Err(error) => record.fail(error),
        }
        answered
    }

    /// `GetDockerConfig`.
    ///
    /// # Errors
    /// Classified; see [`CredentialError`].
    pub async fn get_docker_config(
        self,
        admitted: Admitted,
        message: GetDockerConfigRequest,
    ) -> Result<GetDockerConfigResponse, CredentialError> {
        let request = DockerConfigRequest::try_from(message)?;
        Ok(answer::docker_config(
            &self.credential(&admitted, &request).await?,
        ))
    }

    /// `GetAccessToken`.
    ///
    /// # Errors
    /// Classified; see [`CredentialError`].
    pub async fn get_access_token(
        self,
        admitted: Admitted,
        message: GetAccessTokenRequest,
    ) -> Result<GetAccessTokenResponse, CredentialError> {
        let request = DockerConfigRequest::try_from(message)?;
        let kind = if request.scopes.is_empty() {
            TokenKind::Refresh
        } else {
            TokenKind::Access
        };
        Ok(answer::access_token(
            &self.credential(&admitted, &request).await?,
            kind,
        ))
    }

    /// The way of every credential. What is answered is what the configuration of this moment allows, however long the body
    /// took to arrive and Azure to answer: who has been struck off meanwhile gets nothing (guarantee A6).
    async fn credential(
        &self,
        admitted: &Admitted,
        request: &DockerConfigRequest,
    ) -> Result<Credential, CredentialError> {
        loop {
            let live = self.0.live.current();
            let permit = permitted(admitted, request, &live)?;
            let credential = self.0.credentials.credential(&permit, &request.wish).await?;
            // After a change the next round finds it in the cache, where it is still allowed.
            if Arc::ptr_eq(&live, &self.0.live.current()) {
                return Ok(credential);
            }
        }
    }

    /// `Explain`. Asks nobody, and changes nothing.
    ///
    /// # Errors
    /// There is nothing to explain, or the caller may not ask about this cluster.
    #[expect(clippy::unused_async, reason = "a call like the others")]
    pub async fn explain(
        self,
        admitted: Admitted,
        message: ExplainRequest,
    ) -> Result<ExplainResponse, CredentialError> {
        let ExplainRequest { request, cluster } = message;
        let Admitted { caller, live, .. } = &admitted;
        let request = request.ok_or_else(|| InvalidField::new("request", "must be set"))?;
        let reader = if Role::Operator.is_of(caller) {
            explain::Reader::Operator
        } else {
            explain::Reader::Syncer
        };
        let as_of = on_behalf_of(caller, &cluster, live)?;
        Ok(explain::explain(
            reader,
            caller,
            &as_of,
            request,
            live,
            |permit| self.0.credentials.inspect(permit),
        ))
    }

    /// `ListClusters`.
    ///
    /// # Errors
    /// None; the signature is that of every call.
    #[expect(clippy::unused_async, reason = "a call like the others")]
    pub async fn list_clusters(
        self,
        admitted: Admitted,
        message: ListClustersRequest,
    ) -> Result<ListClustersResponse, CredentialError> {
        Ok(fleet::clusters(
            admitted.live.authenticator.clusters(),
            &message.page_token,
        ))
    }

    /// `Invalidate`.
    ///
    /// # Errors
    /// The selection contradicts itself, selects nothing in particular, or names what there is not.
    #[expect(clippy::unused_async, reason = "a call like the others")]
    pub async fn invalidate(
        self,
        admitted: Admitted,
        message: InvalidateRequest,
    ) -> Result<InvalidateResponse, CredentialError> {
        let selection = fleet::selection(message)?;
        let dropped = self.0.credentials.invalidate(&selection);
        if dropped == 0 {
            fleet::check_names(&selection, &admitted.live)?;
        }
        tracing::info!(
            acrpull.caller = &*admitted.caller.subject,
            ?selection,
            entries_dropped = dropped,
            "cached tokens dropped"
        );
        Ok(InvalidateResponse {
            entries_dropped: u32::try_from(dropped).unwrap_or(u32::MAX),
        })
    }
}

/// Who calls.
fn authenticated(live: &Snapshot, bearer: &str) -> Result<Caller, CredentialError> {
    let caller = live.authenticator.caller(bearer)?;
    let span = tracing::Span::current();
    span.record("acrpull.cluster", &*caller.cluster.config.name);
    span.record("acrpull.caller", &*caller.subject);
    Ok(caller)
}

/// Whether a call that `admits` these is for this caller.
fn check_role(caller: &Caller, admits: &Admits) -> Result<(), CredentialError> {
    match admits {
        Admits::Anybody => Ok(()),
        Admits::Only(roles) => Ok(access::check(caller, roles)?),
    }
}

/// What `live` allows: the subject's token is verified and the policy asked on each request, hit or miss. The caller has
/// been admitted by the configuration of then; another one admits it anew.
fn permitted(
    admitted: &Admitted,
    request: &DockerConfigRequest,
    live: &Arc<Snapshot>,
) -> Result<Permit, CredentialError> {
    let caller = if Arc::ptr_eq(live, &admitted.live) {
        admitted.caller.clone()
    } else {
        let caller = authenticated(live, admitted.bearer.expose())?;
        check_role(&caller, &admitted.admits)?;
        caller
    };
    let span = tracing::Span::current();
    span.record("acrpull.binding.namespace", request.namespace.as_str());
    span.record("acrpull.binding.name", request.binding.as_str());
    span.record("acrpull.registry.server", request.registry.as_str());
    let subject = match &request.identity {
        RequestedIdentity::Federated { subject_token, .. } => {
            Some(live.authenticator.subject(subject_token.expose(), &caller)?)
        }
        RequestedIdentity::BrokerOwned(_) => None,
    };
    let permit = authz::permit(&caller, subject.as_ref(), request, &live.clouds, &live.policy)?;
    match permit.decision() {
        Decision::NotNeeded => {}
        Decision::Granted(grant) => {
            span.record("acrpull.policy.rule", &**grant);
        }
        Decision::ReportOnly => {
            span.record("acrpull.policy.report_only", true);
            admitted.record.report_missing_grant(&caller.cluster.config.name);
        }
    }
    Ok(permit)
}

/// Who a request is explained for: the caller, or for an operator the caller as if it were of the cluster named.
fn on_behalf_of(caller: &Caller, cluster: &str, live: &Snapshot) -> Result<Caller, CredentialError> {
    if cluster.is_empty() || *cluster == *caller.cluster.config.name {
        return Ok(caller.clone());
    }
    if !Role::Operator.is_of(caller) {
        return Err(CredentialError::new(
            Reason::CallerNotPermitted,
            "cluster names another cluster than the caller's own; that is for operators only",
        ));
    }
    let clusters = live.authenticator.clusters();
    let other = clusters
        .iter()
        .find(|other| *other.config.name == *cluster)
        .ok_or_else(|| InvalidField::new("cluster", "must be the name of a configured cluster"))?;
    Ok(Caller {
        cluster: Arc::clone(other),
        subject: Arc::clone(&caller.subject),
    })
}

/// The token of `authorization: Bearer <token>`; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers
        .get(http::header::AUTHORIZATION)?
        .to_str()
        .ok()?
        .split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests;
