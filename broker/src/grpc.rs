//! gRPC: decode, call, encode. No policy, no cache, no second opinion.

use std::time::Duration;

use http::HeaderMap;
use proto::{
    ERROR_DOMAIN, MAX_MESSAGE_BYTES,
    v1::{
        GetDockerConfigRequest, GetDockerConfigResponse,
        credential_service_server::{CredentialService, CredentialServiceServer},
    },
};
use runtime::telemetry::propagation;
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use tracing::Instrument as _;

use crate::{error::CredentialError, metrics::WireFormat, service::Service};

/// The service, with the limits on messages.
pub fn server(service: Service) -> CredentialServiceServer<Grpc> {
    CredentialServiceServer::new(Grpc(service))
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// `acrpull.broker.v1.CredentialService` over gRPC.
pub struct Grpc(Service);

#[tonic::async_trait]
impl CredentialService for Grpc {
    async fn get_docker_config(
        &self,
        request: Request<GetDockerConfigRequest>,
    ) -> Result<Response<GetDockerConfigResponse>, Status> {
        let (metadata, _extensions, message) = request.into_parts();
        let headers = metadata.into_headers();
        let span = tracing::info_span!(
            "acrpull.broker.v1.CredentialService/GetDockerConfig",
            otel.kind = "server",
            rpc.system.name = "grpc",
            acrpull.cluster = tracing::field::Empty,
            acrpull.binding.namespace = tracing::field::Empty,
            acrpull.binding.name = tracing::field::Empty,
            acrpull.registry.server = tracing::field::Empty,
            acrpull.policy.rule = tracing::field::Empty,
        );
        propagation::continue_trace(&span, &headers);
        async {
            self.0
                .get_docker_config(WireFormat::Grpc, &headers, Ok(message), deadline(&headers))
                .await
                .map(Response::new)
                .map_err(Status::from)
        }
        .instrument(span)
        .await
    }
}

impl From<CredentialError> for Status {
    fn from(error: CredentialError) -> Self {
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
        if error.retry_after.is_some() {
            details.set_retry_info(error.retry_after);
        }
        details.add_help_link(error.reason.title(), error.reason.help_url());
        Self::with_error_details(error.reason.grpc_code(), error.message, details)
    }
}

/// `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Requests").
fn deadline(headers: &HeaderMap) -> Option<Duration> {
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
}
