//! One request, start to end, whatever wire it came over: authenticate, parse, authorize, fetch, answer.
//!
//! `grpc` and `http` only decode and encode; there is no second implementation of anything.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::HeaderMap;
use proto::{
    MAX_DEADLINE, Reason,
    v1::{GetDockerConfigRequest, GetDockerConfigResponse},
};

use crate::{
    authn::{AuthnError, TokenError},
    authz,
    credentials::{Credential, Credentials, Payload},
    error::CredentialError,
    live::Live,
    metrics::{Metrics, Outcome, WireFormat},
    request::{DockerConfigRequest, RequestedIdentity},
};

/// What both wires serve. Cheap to clone.
#[derive(Clone)]
pub struct Service(Arc<Parts>);

struct Parts {
    live: Live,
    credentials: Credentials,
    metrics: Metrics,
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

    /// Answers `GetDockerConfig`, within the caller's deadline and never later than 30 s. `message` is what the wire
    /// could decode, or why it could not: who asks comes before what is asked.
    ///
    /// # Errors
    /// Classified; see [`CredentialError`].
    pub async fn get_docker_config(
        &self,
        wire: WireFormat,
        headers: &HeaderMap,
        message: Result<GetDockerConfigRequest, CredentialError>,
        deadline: Option<Duration>,
    ) -> Result<GetDockerConfigResponse, CredentialError> {
        let mut record = Record {
            metrics: &self.0.metrics,
            wire,
            outcome: Outcome::Cancelled,
            started_at: started(),
        };
        let deadline = deadline.unwrap_or(MAX_DEADLINE).min(MAX_DEADLINE);
        let result = tokio::time::timeout(deadline, self.answer(headers, message))
            .await
            .unwrap_or_else(|_elapsed| Err(CredentialError::titled(Reason::DeadlineExceeded)));
        if let Err(error) = &result {
            log_failure(error);
        }
        record.outcome = match &result {
            Ok(response) if response.not_modified => Outcome::NotModified,
            Ok(_response) => Outcome::Issued,
            Err(error) => Outcome::Failed(error.reason),
        };
        result
    }

    async fn answer(
        &self,
        headers: &HeaderMap,
        message: Result<GetDockerConfigRequest, CredentialError>,
    ) -> Result<GetDockerConfigResponse, CredentialError> {
        let live = self.0.live.current();
        let span = tracing::Span::current();
        let bearer = bearer_token(headers).ok_or(AuthnError::Caller(TokenError::Missing))?;
        let caller = live.authenticator.caller(bearer)?;
        span.record("acrpull.cluster", &*caller.cluster.config.name);
        let request = DockerConfigRequest::try_from(message?)?;
        span.record("acrpull.binding.namespace", request.namespace.as_str());
        span.record("acrpull.binding.name", request.binding.as_str());
        span.record("acrpull.registry.server", request.registry.as_str());
        let subject = match &request.identity {
            RequestedIdentity::Federated { subject_token, .. } => {
                Some(live.authenticator.subject(subject_token.expose(), &caller)?)
            }
            RequestedIdentity::BrokerOwned(_) => None,
        };
        let permit = authz::permit(&caller, subject.as_ref(), &request, &live.clouds, &live.policy)?;
        if let Some(grant) = permit.grant() {
            span.record("acrpull.policy.rule", grant);
        }
        let credential = self.0.credentials.credential(&permit, &request.wish).await?;
        Ok(response(&credential))
    }
}

fn response(credential: &Credential) -> GetDockerConfigResponse {
    let time = |at: SystemTime| Some(proto::time::to_timestamp(at));
    let payload = credential.payload.as_ref();
    GetDockerConfigResponse {
        not_modified: payload.is_none(),
        docker_config_json: payload.map(Payload::docker_config_json).unwrap_or_default(),
        expire_time: time(credential.expires_at),
        refresh_time: time(credential.refresh_at),
        granted_scopes: credential.granted.iter().map(ToString::to_string).collect(),
        fingerprint: credential.fingerprint.as_bytes().to_vec().into(),
        degraded: credential.degraded,
    }
}

/// The one place where a refused or failed request is logged. Who asked for what is in the fields of the span.
fn log_failure(error: &CredentialError) {
    tracing::warn!(
        reason = error.reason.as_str(),
        azure.request_id = error.azure_request_id,
        retry_after_s = error.retry_after.map(|wait| wait.as_secs()),
        "no credential: {error}"
    );
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

fn started() -> Instant {
    Instant::now()
}

/// Counts a request when it ends, also when its future is dropped because the caller went away.
struct Record<'a> {
    metrics: &'a Metrics,
    wire: WireFormat,
    outcome: Outcome,
    started_at: Instant,
}

impl Drop for Record<'_> {
    fn drop(&mut self) {
        self.metrics
            .observe_request(self.wire, self.outcome, self.started_at.elapsed().as_secs_f64());
    }
}
