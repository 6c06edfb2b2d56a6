//! The client for the API server. A call that the server throttles is made again here, after the time that the server
//! names and for a short while; after that, or where it names a longer time, whoever made the call is told of it.
//!
//! The library repeats calls as well, and is told not to: it sleeps for as long as the header says, be it a year, and
//! where it gives up the time is lost with the header. What names no time is not repeated here: callers have pauses of
//! their own, and they grow.

use std::{sync::Arc, time::Duration};

use http::{Request, Response, StatusCode, header::CONTENT_LENGTH};
use http_body_util::{BodyExt as _, Collected, Limited};
use kube::{
    Client, Config,
    client::Body,
    core::{Status, response::StatusDetails},
};
use runtime::{Clock, retry_after::retry_after};

/// All pauses of one call together. It leaves room for the answers: a call has 15 s, and a worker waits with it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The shortest pause, as the API server names it. Less would be to knock again at once.
const SHORTEST: Duration = Duration::from_secs(1);
/// A longer time is not believed: the API server names seconds, and a wait of an hour could be the end of a credential.
const LONGEST: Duration = Duration::from_secs(60);
/// For reading a refusal. Its head has come, and the rest is short.
const READING: Duration = Duration::from_secs(5);
/// What is read of a refusal. That of the API server has a few hundred bytes; a proxy may send a page, which helps nobody.
const LONGEST_REFUSAL: usize = 16 * 1024;

/// A client that is patient with a server that throttles it.
///
/// # Errors
/// The configuration cannot be used.
pub(crate) fn connect(config: Config, clock: Arc<dyn Clock>) -> Result<Client, kube::Error> {
    Ok(patient(impatient(config)?, clock))
}

/// A client that asks once, for calls that are no use later: whoever makes them is told at once, and asks again by a
/// schedule of its own.
///
/// # Errors
/// The configuration cannot be used.
pub(crate) fn impatient(mut config: Config) -> Result<Client, kube::Error> {
    config.default_retry = false;
    Client::try_from(config)
}

/// When to try again, if the server throttles and says so: in its answer, or in a header of it that [`connect`] has put
/// there.
pub(crate) fn told(refusal: &Status) -> Option<Duration> {
    let status = StatusCode::from_u16(refusal.code).ok()?;
    let details = refusal.details.as_ref().filter(|_details| throttles(status))?;
    let wait = Duration::from_secs(details.retry_after_seconds.into());
    (!wait.is_zero()).then(|| wait.min(LONGEST))
}

/// Answers that mean "later", to a call of which nothing was done.
fn throttles(status: StatusCode) -> bool {
    matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    )
}

fn patient(client: Client, clock: Arc<dyn Clock>) -> Client {
    let namespace = client.default_namespace().to_owned();
    let calls = tower::service_fn(move |request| call(client.clone(), Arc::clone(&clock), request));
    Client::new(calls, namespace)
}

async fn call(
    client: Client,
    clock: Arc<dyn Clock>,
    mut request: Request<Body>,
) -> Result<Response<Body>, kube::Error> {
    let mut waited = Duration::ZERO;
    loop {
        let again = copy(&request);
        let response = client.send(request).await?;
        if !throttles(response.status()) {
            return Ok(response);
        }
        let Some(wait) = retry_after(response.headers(), clock.now()) else {
            return Ok(response);
        };
        // Those who were refused together do not come back together.
        let pause = wait.max(SHORTEST).mul_f64(1.0 + rand::random::<f64>() / 2.0);
        match again {
            Some(again) if waited + pause <= PATIENCE => {
                // Gives the connection back.
                drop(response);
                tokio::time::sleep(pause).await;
                waited += pause;
                request = again;
            }
            Some(_) | None => return Ok(telling(response, wait).await),
        }
    }
}

/// The same request once more. None if its body is a stream; those of our calls are not.
fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    let mut again = Request::new(request.body().try_clone()?);
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.version_mut() = request.version();
    *again.headers_mut() = request.headers().clone();
    *again.extensions_mut() = request.extensions().clone();
    Some(again)
}

/// The refusal with the time in its body, where the library reads it: a filter before the API server, or a proxy, says it
/// in the header alone, and the rest in plain text.
async fn telling(response: Response<Body>, wait: Duration) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    let read = tokio::time::timeout(READING, Limited::new(body, LONGEST_REFUSAL).collect()).await;
    let text = read.ok().and_then(Result::ok).map(Collected::to_bytes);
    let text = text.unwrap_or_default();
    let mut status = serde_json::from_slice(&text).unwrap_or_else(|_plain| {
        let reason = head.status.canonical_reason().unwrap_or_default();
        let text = std::str::from_utf8(&text).unwrap_or_default().trim();
        Status::failure(if text.is_empty() { reason } else { text }, reason)
    });
    status.code = head.status.as_u16();
    let seconds = wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0));
    status.details.get_or_insert_with(no_details).retry_after_seconds =
        u32::try_from(seconds).unwrap_or(u32::MAX);
    let body = serde_json::to_vec(&status).unwrap_or_default();
    head.headers.remove(CONTENT_LENGTH);
    Response::from_parts(head, Body::from(body))
}

fn no_details() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}

#[cfg(test)]
mod tests;
