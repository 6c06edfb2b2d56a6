//! The one wildcard of the configuration: `*` stands for any text.

use std::fmt;

/// An exact text, or one with `*` in it. Case matters; the texts that it is compared with are canonical.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// A pattern as it is written.
    pub fn new(text: &str) -> Self {
        Self(text.into())
    }

    /// As it is written.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` matches as a whole.
    pub fn matches(&self, text: &str) -> bool {
        let Some((head, tail)) = self.0.split_once('*') else {
            return *self.0 == *text;
        };
        let Some(mut rest) = text.strip_prefix(head) else {
            return false;
        };
        let (middle, last) = tail.rsplit_once('*').unwrap_or(("", tail));
        for part in middle.split('*') {
            // The earliest match leaves the most text for the parts that follow.
            let Some((_skipped, after)) = rest.split_once(part) else {
                return false;
            };
            rest = after;
        }
        rest.ends_with(last)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, without regard to cost.
    fn reference(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|skip| reference(rest, &text[skip..])),
            Some((first, rest)) => text
                .split_first()
                .is_some_and(|(head, tail)| head == first && reference(rest, tail)),
        }
    }

    #[test]
    fn pattern_without_a_star_is_exact() {
        assert!(Pattern::new("web").matches("web"));
        for other in ["", "we", "webs", "aweb", "WEB"] {
            assert!(!Pattern::new("web").matches(other), "{other}");
        }
    }

    #[test]
    fn pattern_of_a_folder_needs_the_slash() {
        assert!(Pattern::new("team/*").matches("team/app"));
        assert!(!Pattern::new("team/*").matches("team2/app"));
        assert!(!Pattern::new("team/*").matches("team"));
    }

    proptest! {
        #[test]
        fn pattern_agrees_with_its_definition(pattern in "[ab*]{0,6}", text in "[ab]{0,8}") {
            prop_assert_eq!(Pattern::new(&pattern).matches(&text), reference(pattern.as_bytes(), text.as_bytes()));
        }
    }
}
