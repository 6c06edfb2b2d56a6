//! Sends one request to Azure: past the gate, with its span and its metrics, and one typed error for all that can fail.
//!
//! Never sends twice. What an error means for a person is [`super::classify`]'s to say; each call brings its own.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Request};
use proto::catalogue::RetryClass;
use runtime::{Clock, never_shown};
use tokio::time::{Instant, timeout};
use tracing::Instrument as _;
use url::Url;
use zeroize::Zeroizing;

use super::{
    Attempt,
    gate::{Gate, HostKind, Outcome, PauseScope, Place, Visit, Withheld},
    imds_update::ImdsUpdate,
    refusal::Refusal,
    skew::{Skew, SkewLog},
    transport::{Answer, Endpoint, Stage, Transport, TransportError},
};
use crate::{error::CredentialError, metrics::UpstreamMetrics};

/// Bound on one call. The transport has bounds for each stage that add up to the same; this one holds whatever it does.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The way to all endpoints.
pub(super) struct Upstream {
    transport: Arc<dyn Transport>,
    gate: Arc<Gate>,
    pub(super) imds_endpoint: Url,
    clock: Arc<dyn Clock>,
    metrics: UpstreamMetrics,
    skew_log: SkewLog,
    imds_update: Mutex<ImdsUpdate>,
}

/// One call.
pub(super) struct Call<'a> {
    pub(super) endpoint: Endpoint,
    /// Name and port: whose budget it takes.
    pub(super) host: &'a str,
    /// Whom a 429 would concern.
    pub(super) scope: PauseScope,
    pub(super) attempt: &'a Attempt,
    pub(super) request: Request<Bytes>,
    pub(super) explain: &'a Explain,
}

/// What an error of the call means: one of [`super::classify`].
pub(super) type Explain = dyn Fn(&UpstreamError) -> CredentialError + Send + Sync;

/// A 2xx answer.
pub(super) struct Received {
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) skew: Skew,
}

never_shown!(Received);

/// Why there is no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum UpstreamError {
    /// An answer other than 2xx.
    #[error("answered with status {}", .0.status)]
    Refused(Refusal),
    /// No answer.
    #[error("the exchange failed")]
    Transport(#[source] TransportError),
    /// A 2xx answer that is not what the protocol says.
    #[error("the answer {0}")]
    Malformed(&'static str),
    /// Nothing was sent.
    #[error("the call was not made")]
    Withheld(#[source] Withheld),
}

impl UpstreamError {
    /// A fixed word for traces.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Transport(error) => error.as_str(),
            Self::Malformed(_) => "malformed",
            Self::Withheld(withheld) => withheld.why.as_str(),
        }
    }
}

impl Upstream {
    pub(super) fn new(
        transport: Arc<dyn Transport>,
        imds_endpoint: Url,
        clock: Arc<dyn Clock>,
        metrics: UpstreamMetrics,
    ) -> Self {
        Self {
            transport,
            gate: Gate::new(rand::random),
            imds_endpoint,
            clock,
            metrics,
            skew_log: SkewLog::default(),
            imds_update: Mutex::default(),
        }
    }

    /// Sends a request, and lets `read` make what was asked for of a 2xx answer.
    ///
    /// # Errors
    /// Everything but a 2xx answer of bounded size that `read` accepts.
    ///
    /// # Cancel safety
    /// Dropping the future gives the call up, and its place.
    pub(super) async fn send<T>(
        &self,
        call: Call<'_>,
        read: impl FnOnce(Received) -> Result<T, UpstreamError>,
    ) -> Result<T, CredentialError> {
        let explain = call.explain;
        let span = tracing::info_span!(
            "azure",
            otel.name = call.endpoint.span_name(),
            otel.kind = "client",
            server.address = call.host,
            http.response.status_code = tracing::field::Empty,
            azure.request_id = tracing::field::Empty,
            error.r#type = tracing::field::Empty,
        );
        let result = self.send_through_gate(call, read).instrument(span.clone()).await;
        match &result {
            Ok(_read) => {}
            Err(UpstreamError::Refused(refusal)) => {
                if let Some(id) = &refusal.request_id {
                    span.record("azure.request_id", id.as_str());
                }
            }
            Err(
                error @ (UpstreamError::Transport(_)
                | UpstreamError::Malformed(_)
                | UpstreamError::Withheld(_)),
            ) => {
                span.record("error.type", error.as_str());
            }
        }
        result.map_err(|error| explain(&error))
    }

    async fn send_through_gate<T>(
        &self,
        call: Call<'_>,
        read: impl FnOnce(Received) -> Result<T, UpstreamError>,
    ) -> Result<T, UpstreamError> {
        let Call {
            endpoint,
            host,
            scope,
            attempt,
            request,
            explain,
        } = call;
        let kind = HostKind::of(endpoint);
        let visit = Visit::new(kind, host, scope, attempt.clone());
        let place = self.gate.enter(visit).await.map_err(|withheld| {
            self.metrics
                .count_withheld(endpoint.as_str(), withheld.why.as_str());
            UpstreamError::Withheld(withheld)
        })?;
        let (sent_at, started) = (self.clock.now(), Instant::now());
        let in_flight = self.metrics.in_flight(endpoint.as_str());
        let answer = timeout(CALL_TIMEOUT, self.transport.exchange(endpoint, request))
            .await
            .unwrap_or(Err(TransportError::Timeout(Stage::Whole)));
        drop(in_flight);
        let status = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        if let Some(status) = status {
            tracing::Span::current().record("http.response.status_code", status);
        }
        self.metrics
            .observe_call(endpoint.as_str(), status, started.elapsed());
        let result = match answer {
            Ok(answer) => self.judge(endpoint, place, answer, sent_at, read, explain),
            Err(error) => {
                let error = UpstreamError::Transport(error);
                if let Some(outcome) = outcome_without_answer(&error) {
                    place.leave(outcome);
                }
                Err(error)
            }
        };
        // Of all kinds: one that nobody calls any more is only put right here.
        for (kind, hosts) in self.gate.open_circuits() {
            self.metrics.set_open_circuits(kind.as_str(), hosts);
        }
        result
    }

    /// Tells the gate how it went, and what came of it.
    fn judge<T>(
        &self,
        endpoint: Endpoint,
        place: Place,
        answer: Answer,
        sent_at: SystemTime,
        read: impl FnOnce(Received) -> Result<T, UpstreamError>,
        explain: &Explain,
    ) -> Result<T, UpstreamError> {
        let (parts, body) = answer.into_parts();
        let skew = self.observe_skew(endpoint, &parts.headers, sent_at);
        if !parts.status.is_success() {
            let status = parts.status.as_u16();
            let refusal = Refusal::read(endpoint, status, &parts.headers, &body, self.clock.now());
            let refusal = self.settle(endpoint, place, refusal, explain);
            return Err(UpstreamError::Refused(refusal));
        }
        if endpoint == Endpoint::Imds {
            self.imds_update().over();
        }
        let result = read(Received { body, skew });
        place.leave(match &result {
            Ok(_read) => Outcome::Answered,
            Err(error) => Outcome::Useless(error.clone()),
        });
        result
    }

    /// Puts the time into a refusal at which asking again makes sense.
    fn settle(&self, endpoint: Endpoint, place: Place, refusal: Refusal, explain: &Explain) -> Refusal {
        let error = UpstreamError::Refused(refusal.clone());
        let is_failure = refusal.is_failure();
        let outcome = if refusal.asks_for_fewer() || refusal.retry_after.is_some() {
            Outcome::Throttled {
                wait: refusal.retry_after,
                failure: is_failure.then_some(error),
            }
        } else if is_failure {
            Outcome::Failed(error)
        } else if explain(&error).reason.retry_class() == RetryClass::Transient {
            Outcome::Useless(error)
        } else {
            Outcome::Answered
        };
        let retry_after = match place.leave(outcome) {
            Some((pause, withheld)) => {
                let kind = HostKind::of(endpoint).as_str();
                self.metrics.throttled_until(kind, self.clock.now() + pause);
                Some(withheld.retry_after)
            }
            None if endpoint == Endpoint::Imds => self.imds_retry(&refusal),
            None => None,
        };
        Refusal {
            retry_after,
            ..refusal
        }
    }

    fn imds_retry(&self, refusal: &Refusal) -> Option<Duration> {
        match refusal.status {
            410 => self.imds_update().gone(Instant::now()),
            _ => None,
        }
    }

    fn imds_update(&self) -> std::sync::MutexGuard<'_, ImdsUpdate> {
        self.imds_update.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The metadata service has no clock of its own: it is this machine's.
    fn observe_skew(&self, endpoint: Endpoint, headers: &HeaderMap, sent_at: SystemTime) -> Skew {
        let kind = HostKind::of(endpoint);
        if kind == HostKind::Imds {
            return Skew::default();
        }
        let Some(skew) = Skew::measure(headers, sent_at, self.clock.now()) else {
            return Skew::default();
        };
        self.metrics.set_clock_skew(kind.as_str(), skew.0);
        self.skew_log.observe(kind, skew, Instant::now());
        skew
    }
}

/// What the gate learns from a call without an answer.
fn outcome_without_answer(error: &UpstreamError) -> Option<Outcome> {
    match error {
        // It did answer.
        UpstreamError::Transport(TransportError::Oversized(_)) => Some(Outcome::Useless(error.clone())),
        // Nothing was sent, and nothing is known.
        UpstreamError::Transport(TransportError::Request | TransportError::ForbiddenHost) => None,
        UpstreamError::Transport(_)
        | UpstreamError::Refused(_)
        | UpstreamError::Malformed(_)
        | UpstreamError::Withheld(_) => Some(Outcome::Failed(error.clone())),
    }
}
