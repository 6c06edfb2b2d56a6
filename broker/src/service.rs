//! The calls, whatever wire they come over: admit (who, and whether at all), parse, authorize, fetch, answer.
//!
//! `grpc` and `http` only decode and encode; there is no second implementation of anything.

mod admission;
mod answer;
mod operations;
mod record;

use std::sync::Arc;

use http::HeaderMap;
use proto::{
    Reason,
    v1::{
        GetAccessTokenRequest, GetAccessTokenResponse, GetDockerConfigRequest, GetDockerConfigResponse,
        TokenKind,
    },
};
use tokio::time::{Instant, timeout_at};

use crate::{
    access::{Call, Role},
    audit::{Audit, facts::Facts},
    authz::{self, Permit, grants::Decision},
    credentials::{Credential, Credentials},
    error::CredentialError,
    live::{Live, Snapshot},
    metrics::{Metrics, WireFormat},
    own_account,
    request::{DockerConfigRequest, RequestedIdentity},
    throttle::Throttle,
};
pub use admission::Admitted;
pub use answer::Answer;
pub use record::Record;

/// What both wires serve. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Parts>);

struct Parts {
    live: Live,
    credentials: Credentials,
    throttle: Throttle,
    metrics: Metrics,
    audit: Audit,
}

impl Service {
    /// Puts the parts together.
    pub fn new(live: Live, credentials: Credentials, metrics: Metrics, audit: Audit) -> Self {
        Self(Arc::new(Parts {
            live,
            credentials,
            throttle: Throttle::new(metrics.clusters()),
            metrics,
            audit,
        }))
    }

    /// Authenticates the caller of a call by the headers and the certificate of its connection, checks its role and how often
    /// it asks. The body is not needed for that. `facts` are what is known of the call by then. Who is refused here is in the
    /// audit log when this returns.
    ///
    /// # Errors
    /// The token or the connection is not accepted, the caller has no role that the call admits, or it asks too often.
    pub async fn admit(
        &self,
        wire: WireFormat,
        call: Call,
        roles: &'static [Role],
        headers: &HeaderMap,
        facts: Facts,
    ) -> Result<Admitted, CredentialError> {
        let peer = facts.peer.clone();
        let Parts {
            live,
            throttle,
            metrics,
            audit,
            ..
        } = &*self.0;
        let record = Record::open(metrics.clone(), audit.clone(), wire, call, facts);
        let admitted = Admitted::by(
            wire,
            roles,
            headers,
            peer,
            live.current(),
            throttle,
            record.clone(),
        );
        record.write().await;
        admitted
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
            Ok(answer) => record.answer(answer.outcome()).await?,
            Err(error) => {
                record.fail(error);
                record.write().await;
            }
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
        let request = Arc::new(DockerConfigRequest::try_from(message)?);
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
        let request = Arc::new(DockerConfigRequest::try_from(message)?);
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
        request: &Arc<DockerConfigRequest>,
    ) -> Result<Credential, CredentialError> {
        let record = &admitted.record;
        record.note(|facts| facts.request = Some(Arc::clone(request)));
        // Before the subject's token is verified, or anything else is done for this namespace.
        self.0.throttle.admit_for(
            &admitted.caller,
            admitted.taken,
            &request.namespace,
            Instant::now(),
        )?;
        loop {
            let live = self.0.live.current();
            let permit = permitted(admitted, request, &live)?;
            let credential = self.0.credentials.credential(&permit, &request.wish).await?;
            // After a change the next round finds it in the cache, where it is still allowed.
            if Arc::ptr_eq(&live, &self.0.live.current()) {
                record.hand_out(&credential);
                return Ok(credential);
            }
        }
    }
}

/// What `live` allows: the subject's token is verified and the policy asked on each request, hit or miss. The caller has
/// been admitted by the configuration of then; another one admits it anew.
fn permitted(
    admitted: &Admitted,
    request: &DockerConfigRequest,
    live: &Arc<Snapshot>,
) -> Result<Permit, CredentialError> {
    // What was allowed by another configuration is not allowed by this one yet.
    admitted.record.note(|facts| {
        facts.permission = None;
        facts.subject = None;
        facts.tenant = None;
        facts.identity = None;
    });
    let (caller, role) = admitted.again_by(live)?;
    let span = tracing::Span::current();
    span.record("acrpull.binding.namespace", request.namespace.as_str());
    span.record("acrpull.binding.name", request.binding.as_str());
    span.record("acrpull.registry.server", request.registry.as_str());
    let subject = match &request.identity {
        RequestedIdentity::Federated { subject_token, .. } => {
            let subject = live.authenticator.subject(subject_token.expose(), &caller)?;
            let verified = Arc::clone(&subject.subject);
            admitted.record.note(|facts| facts.subject = Some(verified));
            Some(subject)
        }
        RequestedIdentity::BrokerOwned(_) => None,
    };
    if role == Role::Workload {
        own_account::check(&caller, subject.as_ref(), request)?;
    }
    let Snapshot { clouds, policy, .. } = &**live;
    let permit = authz::permit(&caller, subject.as_ref(), request, clouds, policy).inspect_err(|denied| {
        let asked = authz::asked(&caller, subject.as_ref(), request, clouds, policy);
        let identity = asked.as_ref().ok().map(|asked| &asked.identity);
        admitted.record.deny(denied, identity);
    })?;
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
    admitted.record.permit(&permit);
    Ok(permit)
}

#[cfg(test)]
mod tests;
