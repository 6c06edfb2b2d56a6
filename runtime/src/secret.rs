//! Bytes that must not be seen: no `Debug`, no `Display`, no `Serialize`, wiped when the last owner lets go.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A token, a key, or a payload that contains one. Cloning shares the one copy in memory.
///
/// The missing implementations are the point:
/// ```compile_fail
/// println!("{:?}", runtime::Secret::from("a token".to_owned()));
/// ```
/// ```compile_fail
/// println!("{}", runtime::Secret::from("a token".to_owned()));
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Zeroizing<String>>);

impl Secret {
    /// The text. What is done with it is on the caller: every use of this method is a place to review.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(Arc::new(Zeroizing::new(text)))
    }
}

/// Reading is fine; there is no way back out by serialization.
impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

#[cfg(test)]
mod tests;
