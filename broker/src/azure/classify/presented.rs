//! What was presented to Entra, in words: what a person compares with the federated credential that is configured there.
//! Holds no token.

use std::path::Path;

use jsonwebtoken::dangerous::insecure_decode_claims;
use proto::types::TenantId;
use runtime::Secret;
use serde::Deserialize;

/// Entra accepts no longer issuers and subjects in a federated credential.
const MAX_CLAIM: usize = 600;

/// Whose token it was, and what of it must match.
#[derive(Debug, Clone)]
pub(in crate::azure) struct Presented {
    /// As the subject of a sentence.
    pub(super) whose: &'static str,
    /// Issuer, subject and audience, as far as they are known.
    pub(super) what: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
}

impl Presented {
    /// A ServiceAccount's token, which is verified.
    pub(in crate::azure) fn service_account(issuer: &str, subject: &str, audiences: &[String]) -> Self {
        Self {
            whose: "the ServiceAccount's token",
            what: format!(
                "issuer {issuer}, subject {subject}, audience {}",
                audiences.join(" or ")
            ),
        }
    }

    /// The broker's own token. It is the platform's own file; still, only what looks like a name is repeated.
    pub(in crate::azure) fn projected_token(file: &Path, token: &Secret) -> Self {
        let file = file.display();
        let is_name = |text: &String| {
            !text.is_empty() && text.len() <= MAX_CLAIM && text.bytes().all(|byte| byte.is_ascii_graphic())
        };
        let what = match insecure_decode_claims::<Claims>(token.expose()) {
            Ok(Claims { iss, sub }) if is_name(&iss) && is_name(&sub) => {
                format!("issuer {iss}, subject {sub}, from {file}")
            }
            Ok(_) | Err(_) => format!("the token in {file}"),
        };
        Self {
            whose: "the broker's own token",
            what,
        }
    }

    /// The token of a managed identity of the broker, for an application that trusts it. What it says of itself is Entra's
    /// text, and stays where it is.
    pub(in crate::azure) fn own_token(identity: &str, tenant: &TenantId, audience: &str) -> Self {
        Self {
            whose: "the managed identity's token",
            what: format!("identity {identity} of tenant {tenant}, audience {audience}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn of(claims: &str) -> String {
        let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        Presented::projected_token(Path::new("/run/token"), &Secret::from(token)).what
    }

    #[test]
    fn presented_projected_token_names_what_the_federated_credential_must_have() {
        let claims = r#"{"iss":"https://issuer.example/","sub":"system:serviceaccount:acrpull:broker"}"#;
        assert_eq!(
            of(claims),
            "issuer https://issuer.example/, subject system:serviceaccount:acrpull:broker, from /run/token"
        );
        for odd in ["{}", "", r#"{"iss":"a\nb","sub":"s"}"#, r#"{"iss":"a","sub":""}"#] {
            assert_eq!(of(odd), "the token in /run/token", "{odd}");
        }
    }
}
