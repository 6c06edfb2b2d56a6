//! Answers that no HTTP server would give: half a head, a chunk without a size, a reset. Here is what still goes out
//! and how the connection ends; a listener carries it out on the socket.

use bytes::Bytes;
use http::Version;

use super::{Unanswered, sending::Watched};
use crate::answer::Answer;

/// Half of an HTTP/2 frame's head: 16 KiB of headers are announced (RFC 9113, 4.1), and their stream is not.
const HALF_A_FRAME_HEAD: &[u8] = &[0x00, 0x40, 0x00, 0x01];

/// What comes of a connection instead of an answer.
#[derive(Debug)]
pub(crate) struct Broken {
    /// Bytes that still go out, past HTTP.
    pub(crate) first: Bytes,
    pub(crate) ending: Ending,
}

/// How the connection ends.
#[derive(Debug)]
pub(crate) enum Ending {
    /// The simulator ends it.
    Now(Unanswered),
    /// The client has to; until then it is watched.
    Silence(Watched),
}

impl Broken {
    /// Half of the answer's head, and then this.
    pub(super) fn in_the_head(version: Version, answer: &Answer, ending: Ending) -> Self {
        let first = if version == Version::HTTP_2 {
            Bytes::from_static(HALF_A_FRAME_HEAD)
        } else {
            let head = head(answer);
            let half = head.len() / 2;
            Bytes::from(head.into_bytes()).slice(..half)
        };
        Self { first, ending }
    }

    /// The answer in one chunk whose size is no number.
    pub(super) fn bad_chunk(answer: &Answer) -> Self {
        let mut first = head(answer).into_bytes();
        first.extend_from_slice(b"transfer-encoding: chunked\r\n\r\nno-size\r\n");
        first.extend_from_slice(&answer.body);
        first.extend_from_slice(b"\r\n0\r\n\r\n");
        Self {
            first: first.into(),
            ending: Ending::Now(Unanswered::BrokenOff),
        }
    }
}

impl From<Unanswered> for Broken {
    fn from(reason: Unanswered) -> Self {
        Self {
            first: Bytes::new(),
            ending: Ending::Now(reason),
        }
    }
}

/// Status line and headers as HTTP/1.1 has them, without the empty line that ends them.
fn head(answer: &Answer) -> String {
    let status = answer.status;
    let mut head = format!(
        "HTTP/1.1 {} {}\r\n",
        status.as_u16(),
        status.canonical_reason().unwrap_or_default()
    );
    for (name, value) in &answer.headers {
        head = format!("{head}{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
    }
    head
}

#[cfg(test)]
mod tests {
    use http::{StatusCode, header};

    use super::*;

    fn answer() -> Answer {
        Answer::empty(StatusCode::OK).with(header::CONTENT_TYPE, "application/json")
    }

    #[test]
    fn head_broken_is_half_of_it() {
        let half = |version| Broken::in_the_head(version, &answer(), Ending::Now(Unanswered::Closed)).first;
        assert_eq!(half(Version::HTTP_11), "HTTP/1.1 200 OK\r\ncontent");
        assert!(half(Version::HTTP_2).len() < 9, "a frame's head has nine bytes");
    }

    #[test]
    fn chunk_broken_has_no_size() {
        let mut answer = answer();
        answer.body = Bytes::from_static(b"{}");
        let text = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n\
                    no-size\r\n{}\r\n0\r\n\r\n";
        assert_eq!(Broken::bad_chunk(&answer).first, text);
    }
}
