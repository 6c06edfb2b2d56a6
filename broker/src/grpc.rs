//! gRPC: decode, call, encode. No policy, no cache, no second opinion.

use std::time::Duration;

use http::HeaderMap;
use proto::{
    ERROR_DOMAIN, MAX_MESSAGE_BYTES, Reason,
    v1::{
        ExplainRequest, ExplainResponse, GetAccessTokenRequest, GetAccessTokenResponse,
        GetDockerConfigRequest, GetDockerConfigResponse, InvalidateRequest, InvalidateResponse,
        ListClustersRequest, ListClustersResponse,
        credential_service_server::{CredentialService, CredentialServiceServer},
        fleet_service_server::{FleetService, FleetServiceServer},
    },
};
use tonic::{Code, Request, Response, Status, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{
    error::CredentialError,
    service::{Admitted, Answer, Service},
};

/// When to try again, in a trailer that gRPC libraries heed by themselves (gRFC A6, "Pushback").
const RETRY_PUSHBACK: &str = "grpc-retry-pushback-ms";

/// Both services of the contract over gRPC.
#[derive(Clone)]
pub struct Grpc(Service);

/// `CredentialService`, with the limits on messages.
pub fn credential_server(service: Service) -> CredentialServiceServer<Grpc> {
    CredentialServiceServer::new(Grpc(service))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// `FleetService`, with the limits on messages.
pub fn fleet_server(service: Service) -> FleetServiceServer<Grpc> {
    FleetServiceServer::new(Grpc(service))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

impl Grpc {
    async fn answer<Q, A, F>(
        &self,
        request: Request<Q>,
        call: fn(Service, Admitted, Q) -> F,
    ) -> Result<Response<A>, Status>
    where
        A: Answer,
        F: Future<Output = Result<A, CredentialError>>,
    {
        let (_metadata, mut extensions, message) = request.into_parts();
        // Only the gate makes one; without it nobody has been authenticated.
        let admitted: Admitted = extensions
            .remove()
            .ok_or_else(|| Status::from(&CredentialError::titled(Reason::Internal)))?;
        let answered = self.0.clone().serve(admitted, Ok(message), call).await;
        answered.map(Response::new).map_err(|error| Status::from(&error))
    }
}

#[tonic::async_trait]
impl CredentialService for Grpc {
    async fn get_docker_config(
        &self,
        request: Request<GetDockerConfigRequest>,
    ) -> Result<Response<GetDockerConfigResponse>, Status> {
        self.answer(request, Service::get_docker_config).await
    }

    async fn get_access_token(
        &self,
        request: Request<GetAccessTokenRequest>,
    ) -> Result<Response<GetAccessTokenResponse>, Status> {
        self.answer(request, Service::get_access_token).await
    }

    async fn explain(&self, request: Request<ExplainRequest>) -> Result<Response<ExplainResponse>, Status> {
        self.answer(request, Service::explain).await
    }
}

#[tonic::async_trait]
impl FleetService for Grpc {
    async fn list_clusters(
        &self,
        request: Request<ListClustersRequest>,
    ) -> Result<Response<ListClustersResponse>, Status> {
        self.answer(request, Service::list_clusters).await
    }

    async fn invalidate(
        &self,
        request: Request<InvalidateRequest>,
    ) -> Result<Response<InvalidateResponse>, Status> {
        self.answer(request, Service::invalidate).await
    }
}

impl From<&CredentialError> for Status {
    fn from(error: &CredentialError) -> Self {
        let code = error.reason.grpc_code();
        let mut details = ErrorDetails::new();
        // Ids go here and not into the message: the message must be the same each time.
        let metadata = error
            .azure_request_id
            .iter()
            .map(|id| ("azure.request_id".to_owned(), id.clone()));
        details.set_error_info(
            error.reason.as_wire(),
            ERROR_DOMAIN,
            metadata.collect::<std::collections::HashMap<_, _>>(),
        );
        details.add_help_link(error.reason.title(), error.reason.help_url());
        let mut trailers = MetadataMap::new();
        if let Some(wait) = error.retry_after {
            details.set_retry_info(Some(wait));
            if matches!(code, Code::ResourceExhausted | Code::Unavailable)
                && let Ok(pushback) = wait.as_millis().to_string().parse()
            {
                trailers.insert(RETRY_PUSHBACK, pushback);
            }
        }
        Self::with_error_details_and_metadata(code, error.message.clone(), details, trailers)
    }
}

/// Why a message has been refused before the call saw it.
pub struct Undecoded {
    /// In the words of the catalogue: tonic's decoder calls a caller's mistake a fault of ours.
    pub error: CredentialError,
    /// The answer is what a client must hear, as it is.
    pub keeps_its_answer: bool,
}

/// What `response` says of a message that has not reached its call.
pub fn undecoded<B>(response: &http::Response<B>) -> Undecoded {
    let code = Status::from_header_map(response.headers()).map(|status| status.code());
    let error = match code {
        Some(Code::OutOfRange) => CredentialError::titled(Reason::RequestTooLarge),
        Some(Code::Unimplemented) => {
            CredentialError::new(Reason::InvalidRequest, "compression is not offered")
        }
        _ => CredentialError::new(
            Reason::InvalidRequest,
            "the message is incomplete, or not the one that this method takes",
        ),
    };
    Undecoded {
        error,
        // Clients know the code for compression and send the message again without.
        keeps_its_answer: matches!(code, None | Some(Code::Unimplemented)),
    }
}

/// `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
pub fn deadline(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_timeout_is_read_in_all_units() {
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-timeout", text.parse().unwrap());
            deadline(&headers)
        };
        assert_eq!(read("5S"), Some(Duration::from_secs(5)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("1H"), Some(Duration::from_secs(3600)));
        assert_eq!(read("7000000u"), Some(Duration::from_secs(7)));
        for text in ["S", "5", "5x", "-5S", "123456789S"] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn status_carries_reason_help_and_the_time_to_wait() {
        let error = CredentialError {
            azure_request_id: Some("request-1".into()),
            ..CredentialError::titled(Reason::UpstreamThrottled).retry_after(Duration::from_millis(7250))
        };
        let status = Status::from(&error);
        assert_eq!(
            (status.code(), status.message()),
            (Code::ResourceExhausted, &*error.message)
        );
        let details = status.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!(
            (&*info.reason, &*info.domain),
            ("UPSTREAM_THROTTLED", "acrpull.dev")
        );
        assert_eq!(info.metadata["azure.request_id"], "request-1");
        assert_eq!(details.retry_info().unwrap().retry_delay, error.retry_after);
        assert_eq!(
            details.help().unwrap().links[0].url,
            "https://acrpull.dev/e/UpstreamThrottled"
        );
        assert_eq!(status.metadata().get(RETRY_PUSHBACK).unwrap(), "7250");
    }

    #[test]
    fn status_pushes_back_only_where_a_library_may_retry() {
        let waiting =
            CredentialError::titled(Reason::RegistryUnauthorized).retry_after(Duration::from_secs(15));
        assert!(Status::from(&waiting).metadata().get(RETRY_PUSHBACK).is_none());
        let unknown = CredentialError::titled(Reason::EntraUnreachable);
        assert!(Status::from(&unknown).metadata().get(RETRY_PUSHBACK).is_none());
    }
}
