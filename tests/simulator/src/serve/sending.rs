//! An answer on its way out, and what faults do to it there: change it, slow it down, cut it, or stop
//! half-way.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;

use super::{AnswerBody, BodyError};
use crate::{
    Action, CloseAt, HangAt,
    answer::Answer,
    faults::{quirky_json, variant_body},
    observation::CallId,
    world::World,
};

/// A slow body is sent in pieces, so many a second.
const SLICES_PER_SECOND: u64 = 10;

/// Tells when a client went away before the body ended.
struct Watched {
    world: Arc<World>,
    call: CallId,
    complete: bool,
}

impl Watched {
    fn finish(&mut self) {
        self.complete = true;
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.complete {
            self.world.observation.aborted(self.call);
        }
    }
}

/// Sends an answer, with what the fault does to it.
pub(super) fn send(
    mut answer: Answer,
    action: Option<Action>,
    world: &Arc<World>,
    call: CallId,
) -> Response<AnswerBody> {
    let watched = || Watched {
        world: Arc::clone(world),
        call,
        complete: false,
    };
    let full = answer.body.len();
    let mut announced = None;
    let body = match action {
        Some(Action::Body { body }) => {
            answer.body = variant_body(&body, &answer.body);
            whole(answer.body)
        }
        Some(Action::JsonQuirk(quirk)) => whole(quirky_json(&quirk, &answer.body)),
        Some(Action::ContentType { value }) => {
            match value {
                Some(value) => answer.set(header::CONTENT_TYPE, &value),
                None => drop(answer.headers.remove(header::CONTENT_TYPE)),
            }
            whole(answer.body)
        }
        Some(Action::WrongRealm { host }) => {
            wrong_realm(&mut answer, &host);
            whole(answer.body)
        }
        Some(Action::Truncate {
            bytes,
            keep_content_length,
        }) => {
            let kept = answer.body.slice(..bytes.min(full));
            if keep_content_length {
                announced = Some(full);
                cut_after(kept)
            } else {
                whole(kept)
            }
        }
        Some(Action::Close { at: CloseAt::MidBody }) => {
            announced = Some(full);
            cut_after(answer.body.slice(..full / 2))
        }
        Some(Action::Hang { at: HangAt::MidBody }) => {
            announced = Some(full);
            silent_after(answer.body.slice(..full / 2), watched())
        }
        Some(Action::SlowBody { bytes_per_s }) => {
            announced = Some(full);
            slow(answer.body, bytes_per_s, watched())
        }
        _ => whole(answer.body),
    };
    let mut response = Response::new(body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    if let Some(length) = announced {
        response
            .headers_mut()
            .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

fn whole(body: Bytes) -> AnswerBody {
    Full::new(body).map_err(|never| match never {}).boxed_unsync()
}

fn streamed(pieces: impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static) -> AnswerBody {
    StreamBody::new(pieces.map(|piece| piece.map(Frame::data))).boxed_unsync()
}

fn cut_after(start: Bytes) -> AnswerBody {
    // The pause lets the start out first: an error at once would take it down too.
    let cut = stream::once(async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        Err(BodyError::Cut)
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
