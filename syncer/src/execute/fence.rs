//! The version of a Secret that a write was decided on. The server refuses the write if there is another by then: one
//! that hung in a process which does not lead any more must not undo what its successor wrote. Both have the same field
//! manager, so to refuse without force would not do. Pure.

use k8s_openapi::api::core::v1::Secret;

use crate::{pull_secret::PullSecret, unread_secret::Known};

/// A version that no Secret has: it is that of an empty store, whose first write makes the next one. With it an apply
/// creates what is absent, and is refused where there is something.
const NO_VERSION: &str = "1";

/// To be written over `secret` as it was seen, or where there was none. The version alone would not do for the former: an
/// apply to an object that is gone would make it anew.
pub fn over(object: Secret, secret: Option<&PullSecret>) -> Secret {
    match secret {
        Some(secret) => with(object, Some(&secret.uid), &secret.resource_version),
        None => with(object, None, NO_VERSION),
    }
}

/// The same for a Secret that may not be read: as our last write left it, or as it was when it was looked at. Without
/// that it may be there or not.
pub(super) fn over_unread(object: Secret, known: &Known) -> Secret {
    match known {
        Known::Seen(secret) => over(object, Some(secret.as_ref())),
        Known::Absent => over(object, None),
        Known::Told | Known::Unknown => object,
    }
}

fn with(mut object: Secret, uid: Option<&String>, version: &str) -> Secret {
    object.metadata.uid = uid.cloned();
    object.metadata.resource_version = Some(version.to_owned());
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(uid: &str, version: &str) -> PullSecret {
        PullSecret {
            uid: uid.to_owned(),
            resource_version: version.to_owned(),
            adopted: true,
            credential: None,
            peers: None,
            answered_request: None,
        }
    }

    fn named(object: Secret) -> [Option<String>; 2] {
        [object.metadata.uid, object.metadata.resource_version]
    }

    #[test]
    fn fence_of_a_write_is_the_secret_that_was_seen_and_of_a_creation_that_there_is_none() {
        let seen = named(over(Secret::default(), Some(&known("one", "7"))));
        assert_eq!(seen, [Some("one".to_owned()), Some("7".to_owned())]);
        let absent = named(over(Secret::default(), None));
        assert_eq!(absent, [None, Some("1".to_owned())]);
    }

    #[test]
    fn fence_of_a_secret_that_may_not_be_read_is_our_last_write_or_look_if_that_is_remembered() {
        let fence = |known| named(over_unread(Secret::default(), &known));
        let seen = fence(Known::Seen(Box::new(known("one", "7"))));
        assert_eq!(seen, [Some("one".to_owned()), Some("7".to_owned())]);
        assert_eq!(fence(Known::Absent), [None, Some("1".to_owned())]);
        for hearsay in [Known::Told, Known::Unknown] {
            assert_eq!(fence(hearsay), [None, None]);
        }
    }
}
