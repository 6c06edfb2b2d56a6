//! Workloads of a cluster: a list of namespaces that says something, or no list.

use super::field::{ConfigError, content};
use crate::config::{Pattern, Workloads, file};

/// Longest name of a namespace (RFC 1123 label).
const MAX_PATTERN_CHARS: usize = 63;

pub(super) fn workloads(field: &str, given: Option<file::Workloads>) -> Result<Workloads, ConfigError> {
    let Some(file::Workloads { namespaces }) = given else {
        return Ok(Workloads::default());
    };
    let field = format!("{field}.namespaces");
    if namespaces.is_empty() {
        return Err(content(
            field,
            "must have at least one entry; leave workloads out to admit none",
        ));
    }
    if let Some(wrong) = namespaces.iter().find(|pattern| !can_match(pattern)) {
        return Err(content(
            field,
            format!("{wrong:?} matches no namespace: use lower-case letters, digits, - and *"),
        ));
    }
    Ok(Workloads::of(
        namespaces.iter().map(|text| Pattern::new(text)).collect(),
    ))
}

/// Whether there can be a namespace that the pattern matches.
fn can_match(pattern: &str) -> bool {
    (1..=MAX_PATTERN_CHARS).contains(&pattern.len())
        && pattern
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'*'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(namespaces: &[&str]) -> Result<Workloads, String> {
        let namespaces = namespaces.iter().map(|text| (*text).to_owned()).collect();
        workloads("clusters[0].workloads", Some(file::Workloads { namespaces }))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn workloads_that_are_not_configured_are_none() {
        let none = workloads("clusters[0].workloads", None).unwrap();
        assert!(!none.admit("web") && none.namespaces().is_empty());
    }

    #[test]
    fn workloads_are_those_of_matching_namespaces() {
        let some = listed(&["web", "team-*"]).unwrap();
        for (namespace, is_admitted) in [
            ("web", true),
            ("team-a", true),
            ("webs", false),
            ("team", false),
            ("", false),
        ] {
            assert_eq!(some.admit(namespace), is_admitted, "{namespace}");
        }
    }

    #[test]
    fn a4_workloads_that_can_match_nothing_are_refused() {
        for wrong in ["", "Web", "team/a", "system:serviceaccount", " web", "a_b"] {
            let refused = listed(&["web", wrong]).unwrap_err();
            assert!(
                refused.starts_with(&format!(
                    "clusters[0].workloads.namespaces: {wrong:?} matches no namespace"
                )),
                "{refused}"
            );
        }
        let refused = listed(&[]).unwrap_err();
        assert!(refused.contains("leave workloads out to admit none"), "{refused}");
    }
}
