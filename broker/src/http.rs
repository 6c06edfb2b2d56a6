//! HTTP JSON: the same calls in the proto3 JSON mapping. Decode, call, encode; no policy, no second implementation.

mod json;
pub mod problem;

use std::sync::LazyLock;

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, FailedToBufferBody, QueryRejection},
    },
    http::{StatusCode, header},
    response::{IntoResponse as _, Response},
    routing::{MethodRouter, get, post},
};
use proto::{Reason, v1::ListClustersRequest};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    access::{Call, TABLE},
    error::CredentialError,
    openapi,
    service::{Admitted, Answer, Service},
};

/// The description changes with the version of the broker, and with nothing else.
const DESCRIPTION_CACHING: &str = "public, max-age=3600";

/// The routes of the table.
pub fn router(service: Service) -> Router {
    TABLE
        .iter()
        .filter_map(|rule| {
            let (_method, path) = rule.http.as_ref()?;
            Some((*path, endpoint(rule.call)?))
        })
        .fold(Router::new(), |router, (path, endpoint)| {
            router.route(path, endpoint)
        })
        .with_state(service)
}

fn endpoint(call: Call) -> Option<MethodRouter<Service>> {
    Some(match call {
        Call::GetDockerConfig => posted(Service::get_docker_config),
        Call::GetAccessToken => posted(Service::get_access_token),
        Call::Explain => posted(Service::explain),
        Call::ListClusters => get(list_clusters),
        Call::Invalidate => posted(Service::invalidate),
        Call::OpenApi => get(description),
        Call::HealthCheck | Call::HealthWatch => return None,
    })
}

/// An endpoint that reads a message, makes the call and writes its answer.
fn posted<Q, A, F>(call: fn(Service, Admitted, Q) -> F) -> MethodRouter<Service>
where
    Q: DeserializeOwned + prost::Name + Send + 'static,
    A: Answer + Serialize + 'static,
    F: Future<Output = Result<A, CredentialError>> + Send + 'static,
{
    post(
        async move |State(service): State<Service>,
                    Extension(admitted): Extension<Admitted>,
                    body: Result<Bytes, BytesRejection>| {
            let message = body
                .map_err(|rejection| unreadable(&rejection))
                .and_then(|body| json::read(&body));
            respond(service.serve(admitted, message, call).await)
        },
    )
}

async fn list_clusters(
    State(service): State<Service>,
    Extension(admitted): Extension<Admitted>,
    query: Result<Query<ListClustersRequest>, QueryRejection>,
) -> Response {
    let message = query.map(|Query(message)| message).map_err(|_rejection| {
        CredentialError::new(
            Reason::InvalidRequest,
            "the query may have pageToken, once, and nothing else",
        )
    });
    respond(service.serve(admitted, message, Service::list_clusters).await)
}

async fn description() -> Response {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| openapi::document().to_string().into());
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, DESCRIPTION_CACHING),
    ];
    (headers, DOCUMENT.clone()).into_response()
}

fn respond<A: Serialize>(answered: Result<A, CredentialError>) -> Response {
    let message = match answered {
        Ok(message) => message,
        Err(error) => return problem::of(&error),
    };
    let Ok(body) = json::write(&message) else {
        return problem::of(&CredentialError::titled(Reason::Internal));
    };
    let headers = [
        (header::CONTENT_TYPE, "application/json"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (StatusCode::OK, headers, Bytes::from_owner(body)).into_response()
}

fn unreadable(rejection: &BytesRejection) -> CredentialError {
    if let BytesRejection::FailedToBufferBody(FailedToBufferBody::LengthLimitError(_)) = rejection {
        CredentialError::titled(Reason::RequestTooLarge)
    } else {
        CredentialError::new(Reason::InvalidRequest, "the body did not arrive as a whole")
    }
}

#[cfg(test)]
mod tests;
