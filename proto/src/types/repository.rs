//! Which texts are names of repositories. Pure. The broker judges scopes and grants by it, and the syncer's preflight what a
//! grant could allow.

/// Longest repository name that the reference implementation of the OCI distribution specification takes.
const MAX_REPOSITORY_CHARS: usize = 255;

/// Whether `text` is a repository in the one form that a registry knows (OCI distribution specification, "Pulling
/// manifests"). What another reader could take for another repository, such as `a/../b`, `a//b` or `a%2fb`, is none.
pub fn is_repository(text: &str) -> bool {
    text.len() <= MAX_REPOSITORY_CHARS && text.split('/').all(is_path_component)
}

/// Letters and digits, with separators between them: a dot, one or two underscores, or any number of hyphens.
fn is_path_component(text: &str) -> bool {
    let is_ok = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = text.as_bytes();
    loop {
        let word = rest.iter().take_while(|byte| is_ok(byte)).count();
        if word == 0 {
            return false;
        }
        rest = rest.split_at(word).1;
        let separator = rest.iter().take_while(|byte| !is_ok(byte)).count();
        let (before, after) = rest.split_at(separator);
        rest = after;
        match before {
            [] => return true,
            b"." | b"_" | b"__" => {}
            hyphens if hyphens.iter().all(|byte| *byte == b'-') => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a4_repository_has_one_form() {
        for text in ["app", "team/app", "team/app.v1/x_y/a__b/c---d", "0/1"] {
            assert!(is_repository(text), "{text}");
        }
        for text in [
            "",
            "/",
            "/app",
            "app/",
            "team//app",
            "team/../app",
            "team/./app",
            "..",
            ".",
            "Team/app",
            "team/%2e%2e/app",
            "team%2fapp",
            "team/app?x",
            "team/app#x",
            "a..b",
            "a___b",
            "a._b",
            "a-",
            "-a",
            "a_",
            "team app",
            "ä",
            "*",
            &"a".repeat(256),
        ] {
            assert!(!is_repository(text), "{text}");
        }
    }
}
