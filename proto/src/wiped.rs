//! Messages that carry a token as text wipe it when they go: a request that is refused before anybody has read its token, and
//! an answer that is on the wire. A `GetDockerConfigResponse` holds bytes, whose owner wipes them.
//!
//! Copies that the codecs make, of gRPC and of JSON, are theirs.

use zeroize::Zeroize as _;

use crate::v1::{FederatedIdentity, GetAccessTokenResponse};

impl Drop for FederatedIdentity {
    fn drop(&mut self) {
        self.subject_token.zeroize();
    }
}

impl Drop for GetAccessTokenResponse {
    fn drop(&mut self) {
        self.token.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        io::{Read as _, Seek as _, SeekFrom},
    };

    use super::*;

    const CANARY: &str = "canary-of-a-token";

    /// Whether the token that `text` leads to is in memory before the message goes, and after it.
    fn seen<M>(message: M, text: impl Fn(&M) -> &String) -> (bool, bool) {
        let (address, length) = (text(&message).as_ptr() as u64, text(&message).len());
        // Set up before: an allocation in between could be given the very memory that is looked at.
        let (mut memory, mut bytes) = (File::open("/proc/self/mem").unwrap(), vec![0; length]);
        let mut look = || {
            memory.seek(SeekFrom::Start(address)).unwrap();
            // Memory that is not there any more shows nothing.
            let read = memory.read(&mut bytes).unwrap_or_default();
            bytes[..read]
                .windows(CANARY.len())
                .any(|window| window == CANARY.as_bytes())
        };
        let before = look();
        drop(message);
        (before, look())
    }

    #[test]
    fn l2_token_in_a_message_is_wiped_when_the_message_goes() {
        let request = FederatedIdentity {
            tenant_id: String::new(),
            client_id: String::new(),
            subject_token: CANARY.repeat(100),
        };
        assert_eq!(seen(request, |message| &message.subject_token), (true, false));
        let mut answer = GetAccessTokenResponse::default();
        CANARY.repeat(100).clone_into(&mut answer.token);
        assert_eq!(seen(answer, |message| &message.token), (true, false));
    }
}
