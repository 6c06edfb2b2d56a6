//! Texts of a request that nothing has verified. Somebody may have put a token where a name belongs, and the log must not
//! keep it: what is no name of its kind is withheld, as a whole.

use proto::types::{Scope, ScopeSet};
use serde::{Serialize, Serializer};
use url::Url;

/// What stands in the record instead.
pub(super) const WITHHELD: &str = "(withheld)";
/// Longer than any sensible name of a repository with its actions.
const MAX_SCOPE_BYTES: usize = 512;
/// Longer than any name of a cloud.
const MAX_CLOUD_BYTES: usize = 32;

/// In their canonical form. Names of repositories are in lower case (distribution specification), which no token is.
pub(super) struct Scopes<'a>(pub(super) &'a ScopeSet);

impl Serialize for Scopes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(scope))
    }
}

fn scope(scope: &Scope) -> String {
    let text = scope.to_string();
    let is_lower = |text: &str| !text.bytes().any(|byte| byte.is_ascii_uppercase());
    // `metadataRead` is how some write an action.
    let is_name = is_lower(&text) || is_lower(&text.replace("metadataRead", ""));
    if text.len() <= MAX_SCOPE_BYTES && is_name {
        text
    } else {
        WITHHELD.to_owned()
    }
}

/// The name of a cloud, if it can be one.
pub(super) fn cloud(name: &str) -> &str {
    let is_name = name.len() <= MAX_CLOUD_BYTES
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if is_name { name } else { WITHHELD }
}

/// Scheme, host and port of an authority: what comes after it, or before the host, is nobody's to keep.
pub(super) fn authority(text: &str) -> String {
    Url::parse(text)
        .ok()
        .filter(Url::has_host)
        .map_or_else(|| WITHHELD.to_owned(), |url| url.origin().ascii_serialization())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJ3ZWIifQ.c2lnbmF0dXJlLW9mLWEtdG9rZW4";

    #[test]
    fn o1_scope_is_recorded_and_a_token_in_its_place_is_not() {
        let json = |text: &str| serde_json::to_string(&Scopes(&ScopeSet::from_field(text).unwrap())).unwrap();
        assert_eq!(
            json("repository:team/web:pull,metadataRead registry:catalog:*"),
            r#"["registry:catalog:*","repository:team/web:metadataRead,pull"]"#
        );
        for hidden in [
            format!("repository:{TOKEN}:pull"),
            format!("repository:{}:pull", "a".repeat(MAX_SCOPE_BYTES)),
        ] {
            assert_eq!(json(&hidden), r#"["(withheld)"]"#, "{hidden}");
        }
    }

    #[test]
    fn o1_cloud_and_authority_are_recorded_as_far_as_they_are_names() {
        assert_eq!(cloud("USGovernmentCloud"), "USGovernmentCloud");
        assert_eq!(cloud("airgap-1"), "airgap-1");
        assert_eq!(cloud(TOKEN), WITHHELD);
        assert_eq!(
            authority("https://login.airgap.example/"),
            "https://login.airgap.example"
        );
        let hidden = format!("https://{TOKEN}@login.example/{TOKEN}?{TOKEN}#{TOKEN}");
        assert_eq!(authority(&hidden), "https://login.example");
        assert_eq!(authority(TOKEN), WITHHELD);
    }
}
