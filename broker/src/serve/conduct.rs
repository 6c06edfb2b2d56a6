//! How a connection behaves, and what it may hold open for it.
//!
//! A stranger is a connection over which nobody has been admitted. It may ask what anybody may ask, a few things at a
//! time and not for ever: whatever it does with its streams and windows, it costs a bounded amount of memory. From the
//! first caller that the gate admits, the connection is known, has its seat, and only HTTP/2's own limits.
//!
//! What is refused here is refused in headers alone: a body could be held up by a peer that takes none of it.

use std::{
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::{Body, Bytes};
use http::{Response, StatusCode, Version, header};
use hyper::body::{Frame, SizeHint};
use tokio::sync::Notify;
use tonic::Status;

use super::seats::Seat;
use crate::access::Call;

/// Exchanges that a stranger may have open at a time: those of a load balancer that checks health, and to spare.
pub(super) const STRANGERS_EXCHANGES: usize = 8;
/// Requests over HTTP/2 after which a stranger is asked to go: a peer that takes answers byte by byte leaves a little of
/// each behind. A health check every 5 s does not come to that within the age of a connection.
pub(super) const STRANGERS_REQUESTS: usize = 64;

/// How one connection has behaved so far. In the extensions of each of its requests.
pub(crate) struct Conduct {
    seat: Seat,
    is_known: AtomicBool,
    requests: AtomicUsize,
    open_exchanges: AtomicUsize,
    has_watch: AtomicBool,
    spent: Notify,
}

/// A request and its answer, to the end of the answer's body.
pub(super) struct Exchange {
    conduct: Arc<Conduct>,
    /// Exchanges that were open when this one began.
    others: usize,
    is_last_of_stranger: bool,
    is_watch: bool,
}

/// The body of an answer, for which the exchange is open.
struct Answer {
    body: Body,
    _exchange: Exchange,
}

impl Conduct {
    pub(super) fn new(seat: Seat) -> Self {
        Self {
            seat,
            is_known: AtomicBool::new(false),
            requests: AtomicUsize::new(0),
            open_exchanges: AtomicUsize::new(0),
            has_watch: AtomicBool::new(false),
            spent: Notify::new(),
        }
    }

    /// The gate has admitted a caller of `cluster` over this connection: it is a stranger no more. The first one counts.
    pub(crate) fn admitted(&self, cluster: &Arc<str>) {
        if !self.is_known.swap(true, Ordering::Relaxed) {
            self.seat.keep(cluster);
        }
    }

    /// The address on the other side.
    pub(crate) fn peer(&self) -> Option<SocketAddr> {
        self.seat.peer()
    }

    pub(super) fn has_asked(&self) -> bool {
        self.requests.load(Ordering::Relaxed) > 0
    }

    /// Waits until the connection must make room.
    pub(super) async fn displaced(&self) {
        self.seat.displaced().await;
    }

    /// Waits until a stranger has asked all that it may.
    pub(super) async fn spent(&self) {
        self.spent.notified().await;
    }

    fn is_stranger(&self) -> bool {
        !self.is_known.load(Ordering::Relaxed)
    }
}

impl Exchange {
    pub(super) fn begin(conduct: &Arc<Conduct>, version: Version) -> Self {
        let earlier = conduct.requests.fetch_add(1, Ordering::Relaxed);
        Self {
            conduct: Arc::clone(conduct),
            others: conduct.open_exchanges.fetch_add(1, Ordering::Relaxed),
            // Over HTTP/1 there is one exchange at a time.
            is_last_of_stranger: version == Version::HTTP_2 && earlier + 1 >= STRANGERS_REQUESTS,
            is_watch: false,
        }
    }

    /// The refusal of a call that anybody may make, if this connection may not make it now. Calls of authenticated
    /// callers go to the gate first: many at once may be the first ones of a connection.
    pub(super) fn refusal(&mut self, public: Call) -> Option<Response<Body>> {
        if public == Call::HealthWatch {
            // One tells all there is to tell.
            self.is_watch = !self.conduct.has_watch.swap(true, Ordering::Relaxed);
        }
        let is_second_watch = public == Call::HealthWatch && !self.is_watch;
        (is_second_watch || self.is_too_many()).then(|| {
            self.note_last();
            too_many(public)
        })
    }

    /// The answer, as this connection may have it.
    pub(super) fn answer(self, response: Response<Body>) -> Response<Body> {
        self.note_last();
        if self.is_too_many() {
            return headers_only(response);
        }
        response.map(|body| {
            Body::new(Answer {
                body,
                _exchange: self,
            })
        })
    }

    fn is_too_many(&self) -> bool {
        self.others >= STRANGERS_EXCHANGES && self.conduct.is_stranger()
    }

    fn note_last(&self) {
        if self.is_last_of_stranger && self.conduct.is_stranger() {
            self.conduct.spent.notify_one();
        }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.conduct.open_exchanges.fetch_sub(1, Ordering::Relaxed);
        if self.is_watch {
            self.conduct.has_watch.store(false, Ordering::Relaxed);
        }
    }
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// In the form of the wire that `public` is called over.
fn too_many(public: Call) -> Response<Body> {
    match public {
        Call::HealthCheck | Call::HealthWatch => {
            Status::resource_exhausted("too much at once on a connection without an authenticated caller")
                .into_http()
        }
        Call::OpenApi
        | Call::GetDockerConfig
        | Call::GetAccessToken
        | Call::Explain
        | Call::ListClusters
        | Call::Invalidate => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
            response
        }
    }
}

/// The status says what there is to say, over gRPC all of it.
fn headers_only(response: Response<Body>) -> Response<Body> {
    let (mut parts, _body) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::empty())
}
