//! Which texts are names: of a namespace, of a Kubernetes object, of a repository. Pure.
//!
//! Requests and patterns of the configuration are judged by the same rules, so that a pattern which could never match is
//! a mistake that is found when it is written.

pub use proto::types::is_repository;

/// Longest namespace (RFC 1123 label) and longest object name (RFC 1123 subdomain).
const MAX_LABEL_CHARS: usize = 63;
const MAX_SUBDOMAIN_CHARS: usize = 253;

/// Whether `text` can be the name of a namespace.
pub fn is_namespace(text: &str) -> bool {
    text.len() <= MAX_LABEL_CHARS && is_label(text)
}

/// Whether `text` can be the name of a ServiceAccount or of a binding.
pub fn is_object_name(text: &str) -> bool {
    text.len() <= MAX_SUBDOMAIN_CHARS && text.split('.').all(is_label)
}

/// Whether some text can be a name by `is_name` and match `pattern`, in which each `*` stands for any text.
pub fn could_match(pattern: &str, is_name: impl Fn(&str) -> bool) -> bool {
    // One letter in place of each star is as good a name as any other text can make of it, unless it is too long.
    let [longest, shortest] = ["a", ""].map(|filling| pattern.replace('*', filling));
    is_name(&longest) || is_name(&shortest)
}

fn is_label(text: &str) -> bool {
    let is_ok = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.bytes().all(|byte| is_ok(byte) || byte == b'-')
        && text.bytes().next().is_some_and(is_ok)
        && text.bytes().last().is_some_and(is_ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespace_is_a_label() {
        for text in ["web", "a", "team-1", "0", &"a".repeat(63)] {
            assert!(is_namespace(text), "{text}");
        }
        for text in [
            "",
            "Web",
            "web.data",
            "-web",
            "web-",
            "we b",
            "web/data",
            "*",
            &"a".repeat(64),
        ] {
            assert!(!is_namespace(text), "{text}");
        }
    }

    #[test]
    fn object_name_is_a_subdomain() {
        for text in ["app", "app.v1", "a-b.c-d", "system"] {
            assert!(is_object_name(text), "{text}");
        }
        for text in ["", ".", "..", "app.", ".app", "a..b", "-", "App", "a_b", "a:b"] {
            assert!(!is_object_name(text), "{text}");
        }
    }

    #[test]
    fn a4_pattern_that_can_match_no_name_is_known() {
        for pattern in [
            "web",
            "web-*",
            "*",
            "*-web",
            "w*b",
            "**",
            &format!("{}*", "a".repeat(63)),
        ] {
            assert!(could_match(pattern, is_namespace), "{pattern}");
        }
        for pattern in [
            "",
            "web/*",
            "Web-*",
            "-*",
            "*-",
            "web.*",
            "w b",
            &format!("{}*", "a".repeat(64)),
        ] {
            assert!(!could_match(pattern, is_namespace), "{pattern}");
        }
        for pattern in ["team/*", "*", "*/app", "team/*/x", "team*", "a_*", "a.*"] {
            assert!(could_match(pattern, is_repository), "{pattern}");
        }
        for pattern in [
            "/team/*",
            "team/",
            "*/",
            "Team/*",
            "team//*",
            "../*",
            "team/*:latest",
        ] {
            assert!(!could_match(pattern, is_repository), "{pattern}");
        }
    }
}
