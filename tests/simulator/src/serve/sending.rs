//! An answer on its way out, and what faults do to it there: change it, slow it down, cut it, or stop
//! half-way.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, Response, Version, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};

use super::{AnswerBody, BodyError, Broken, Ending, Unanswered};
use crate::{
    Action, CloseAt, HangAt,
    answer::Answer,
    clock::http_date,
    faults::{gzip_bomb, quirky_json, variant_body},
    observation::CallId,
    world::World,
};

/// A slow body is sent in pieces, so many a second.
const SLICES_PER_SECOND: u64 = 10;

/// Between the last bytes and the end of a connection, so that they arrive before it.
pub(crate) const BEFORE_THE_END: Duration = Duration::from_millis(50);

/// Tells when a client went away before the answer ended.
pub(crate) struct Watched {
    world: Arc<World>,
    call: CallId,
    complete: bool,
}

impl Watched {
    pub(super) fn new(world: Arc<World>, call: CallId) -> Self {
        Self {
            world,
            call,
            complete: false,
        }
    }

    fn finish(&mut self) {
        self.complete = true;
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Watched")
            .field("call", &self.call)
            .finish_non_exhaustive()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.complete {
            self.world.observation.aborted(self.call);
        }
    }
}

/// Sends an answer, with what the fault does to it. `now` is the service's time, for `Date`.
pub(super) fn send(
    mut answer: Answer,
    action: Option<&Action>,
    (version, now): (Version, Timestamp),
    mut watched: Watched,
) -> Result<Response<AnswerBody>, Broken> {
    if let Some(date) = http_date(now) {
        answer.set(header::DATE, &date);
    }
    if let Some(action) = action {
        spoil(&mut answer, action, now);
    }
    let full = answer.body.len();
    let half = || answer.body.slice(..full / 2);
    let in_the_head = |ending| Broken::in_the_head(version, &answer, ending);
    let (body, announced) = match action {
        Some(Action::Hang {
            at: HangAt::MidHeaders,
        }) => return Err(in_the_head(Ending::Silence(watched))),
        Some(Action::Hang { at: HangAt::MidBody }) => (silent_after(half(), watched), Some(full)),
        Some(Action::SlowBody { bytes_per_s }) => {
            (slow(answer.body.clone(), *bytes_per_s, watched), Some(full))
        }
        delivered => {
            watched.finish();
            match delivered {
                Some(Action::Close {
                    at: CloseAt::MidHeaders,
                }) => return Err(in_the_head(Ending::Now(Unanswered::Closed))),
                Some(Action::Reset {
                    at: CloseAt::MidHeaders,
                }) => return Err(in_the_head(Ending::Now(Unanswered::Reset))),
                Some(Action::BadChunking {}) => return Err(Broken::bad_chunk(&answer)),
                Some(Action::Close { at: CloseAt::MidBody }) => {
                    (cut_after(half(), BodyError::Cut), Some(full))
                }
                Some(Action::Reset { at: CloseAt::MidBody }) => {
                    (cut_after(half(), BodyError::Reset), Some(full))
                }
                Some(Action::Truncate {
                    bytes,
                    keep_content_length,
                }) => {
                    let kept = answer.body.slice(..full.min(*bytes));
                    if *keep_content_length {
                        (cut_after(kept, BodyError::Cut), Some(full))
                    } else {
                        (whole(kept), None)
                    }
                }
                _ => (whole(answer.body.clone()), None),
            }
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    if let Some(length) = announced {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    Ok(response)
}

/// Changes what the answer says.
fn spoil(answer: &mut Answer, action: &Action, now: Timestamp) {
    match action {
        Action::Body { body } => answer.body = variant_body(body, &answer.body),
        Action::JsonQuirk(quirk) => answer.body = quirky_json(quirk, &answer.body),
        Action::GzipBomb { bytes } => {
            answer.body = gzip_bomb(*bytes);
            answer.set(header::CONTENT_ENCODING, "gzip");
        }
        Action::ContentType { value: Some(value) } => answer.set(header::CONTENT_TYPE, value),
        Action::ContentType { value: None } => drop(answer.headers.remove(header::CONTENT_TYPE)),
        Action::DateHeader { offset_s } => {
            drop(answer.headers.remove(header::DATE));
            let moved = offset_s.and_then(|offset| now.checked_add(SignedDuration::from_secs(offset)).ok());
            if let Some(date) = moved.and_then(http_date) {
                answer.set(header::DATE, &date);
            }
        }
        Action::WrongRealm { host } => wrong_realm(answer, host),
        Action::Status { .. }
        | Action::Throttle { .. }
        | Action::Latency { .. }
        | Action::SlowBody { .. }
        | Action::Hang { .. }
        | Action::Close { .. }
        | Action::Reset { .. }
        | Action::Tls { .. }
        | Action::Truncate { .. }
        | Action::BadChunking {}
        | Action::Redirect { .. }
        | Action::Token(_)
        | Action::Flip { .. } => {}
    }
}

fn whole(body: Bytes) -> AnswerBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn streamed(pieces: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> AnswerBody {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

fn cut_after(start: Bytes, error: BodyError) -> AnswerBody {
    // An error at once would take the start down too.
    let cut = stream::once(async {
        tokio::time::sleep(BEFORE_THE_END).await;
        Err(error)
    });
    streamed(stream::iter([Ok(start)]).chain(cut))
}

fn silent_after(start: Bytes, watched: Watched) -> AnswerBody {
    let silence = stream::once(async move {
        let _ends_with_the_body = watched;
        std::future::pending().await
    });
    streamed(stream::iter([Ok(start)]).chain(silence))
}

fn slow(body: Bytes, bytes_per_s: u64, watched: Watched) -> AnswerBody {
    let slice = usize::try_from((bytes_per_s / SLICES_PER_SECOND).max(1)).unwrap_or(usize::MAX);
    let pause = Duration::from_secs(1)
        .mul_f64(f64::from(u32::try_from(slice).unwrap_or(u32::MAX)))
        .div_f64(f64::from(u32::try_from(bytes_per_s.max(1)).unwrap_or(u32::MAX)));
    streamed(stream::unfold(
        (body, watched),
        move |(mut rest, mut watched)| async move {
            if rest.is_empty() {
                watched.finish();
                return None;
            }
            tokio::time::sleep(pause).await;
            let piece = rest.split_to(slice.min(rest.len()));
            Some((Ok(piece), (rest, watched)))
        },
    ))
}

/// Replaces the host of the realm in a challenge.
fn wrong_realm(answer: &mut Answer, host: &str) {
    let Some(challenge) = answer
        .headers
        .get(header::WWW_AUTHENTICATE)
        .and_then(|value| value.to_str().ok())
    else {
        return;
    };
    let Some((before, rest)) = challenge.split_once("realm=\"https://") else {
        return;
    };
    let Some((_, after)) = rest.split_once('/') else {
        return;
    };
    let challenge = format!("{before}realm=\"https://{host}/{after}");
    answer.set(header::WWW_AUTHENTICATE, &challenge);
}
