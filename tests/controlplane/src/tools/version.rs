//! Versions as the tools print them: the first `X.Y.Z` in a text. Pre-release and build suffixes are of no
//! interest here.

use std::fmt;

/// A released version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// X of X.Y.Z.
    pub major: u64,
    /// Y of X.Y.Z.
    pub minor: u64,
    /// Z of X.Y.Z.
    pub patch: u64,
}

impl Version {
    /// The first version in a text, with or without a leading `v`.
    pub fn find(text: &str) -> Option<Self> {
        text.split_whitespace().find_map(Self::parse)
    }

    fn parse(word: &str) -> Option<Self> {
        let mut parts = word.trim_start_matches('v').splitn(3, '.');
        let major = parts.next()?.parse().ok()?;
        let minor = parts.next()?.parse().ok()?;
        let last = parts.next()?;
        let digits = last.split(|character: char| !character.is_ascii_digit()).next()?;
        Some(Self {
            major,
            minor,
            patch: digits.parse().ok()?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn find_outputs_of_the_tools_are_understood() {
        let cases = [
            ("Kubernetes v1.36.3", "1.36.3"),
            ("Client Version: v1.36.3\nKustomize Version: v5.8.1", "1.36.3"),
            (
                "etcd Version: 3.6.16\nGit SHA: Not provided\nGo Version: go1.26.8",
                "3.6.16",
            ),
            ("v3.22.0+gabcdef1", "3.22.0"),
            (
                "/usr/bin/registry github.com/distribution/distribution/v3 v3.1.2+unknown",
                "3.1.2",
            ),
            ("v0.22.1", "0.22.1"),
            ("v1.37.0-alpha.2", "1.37.0"),
        ];
        for (text, expected) in cases {
            assert_eq!(
                Version::find(text).map(|version| version.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn find_text_without_a_version_is_none() {
        for text in ["", "(devel)", "v3.22", "usage: registry <config>", "1.x.3"] {
            assert_eq!(Version::find(text), None, "{text}");
        }
    }
}
