//! The host name of a registry, the one thing a binding says about where a token goes.

use std::{fmt, str::FromStr, sync::Arc};

/// A bare, lower-case DNS name of at least two labels, such as `example.azurecr.io` or `example.eastus.geo.azurecr.io`.
///
/// Parsed once, then compared exactly. Whatever could make two parsers disagree on where a token goes is refused:
/// scheme, user information, port, path, final dot, IP literals, non-ASCII names and their `xn--` form.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegistryHost(Arc<str>);

/// Why a text is not a registry host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RegistryHostError {
    /// Nothing there.
    #[error("must not be empty")]
    Empty,
    /// Longer than a DNS name can be.
    #[error("must have at most 253 characters")]
    TooLong,
    /// A character that no host name has; the usual causes are a scheme, a port or a path.
    #[error("must be a bare host name such as example.azurecr.io: no scheme, port, path or user name")]
    Character,
    /// An empty label, a label over 63 characters, or one that starts or ends with a hyphen.
    #[error("has a label that is empty, over 63 characters, or starts or ends with a hyphen")]
    Label,
    /// A single label: a search domain could send it anywhere.
    #[error("must be a full name such as example.azurecr.io")]
    NotQualified,
    /// An IP address.
    #[error("must be a name, not an IP address")]
    IpAddress,
    /// An internationalized label.
    #[error("must not contain internationalized (xn--) labels")]
    Punycode,
}

impl RegistryHost {
    /// Longest DNS name, in characters (RFC 1035 section 2.3.4, without the final dot).
    const MAX_CHARS: usize = 253;
    /// Longest label, in characters (RFC 1035 section 2.3.4).
    const MAX_LABEL_CHARS: usize = 63;

    /// The name in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this host lies under `suffix`, such as `azurecr.io`, at a label boundary. The suffix itself does not.
    pub fn is_under(&self, suffix: &str) -> bool {
        self.0
            .strip_suffix(suffix)
            .is_some_and(|head| head.len() > 1 && head.ends_with('.'))
    }
}

impl FromStr for RegistryHost {
    type Err = RegistryHostError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(RegistryHostError::Empty);
        }
        if text.len() > Self::MAX_CHARS {
            return Err(RegistryHostError::TooLong);
        }
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.')
        {
            return Err(RegistryHostError::Character);
        }
        let name = text.to_ascii_lowercase();
        let label_is_bad = |label: &str| {
            label.is_empty()
                || label.len() > Self::MAX_LABEL_CHARS
                || label.starts_with('-')
                || label.ends_with('-')
        };
        if name.split('.').any(label_is_bad) {
            return Err(RegistryHostError::Label);
        }
        if name.split('.').any(|label| label.starts_with("xn--")) {
            return Err(RegistryHostError::Punycode);
        }
        let Some((_, last)) = name.rsplit_once('.') else {
            return Err(RegistryHostError::NotQualified);
        };
        // Resolvers read a name whose last label is numeric or 0x-hexadecimal as an IPv4 address (WHATWG URL, "ends in a number").
        if !last.starts_with(|first: char| first.is_ascii_alphabetic()) {
            return Err(RegistryHostError::IpAddress);
        }
        Ok(Self(name.into()))
    }
}

impl fmt::Display for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RegistryHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_host_forms_that_exist_are_accepted() {
        for (text, canonical) in [
            ("example.azurecr.io", "example.azurecr.io"),
            ("Example.AzureCR.io", "example.azurecr.io"),
            ("name-a1b2c3.azurecr.io", "name-a1b2c3.azurecr.io"),
            ("name.eastus.geo.azurecr.io", "name.eastus.geo.azurecr.io"),
        ] {
            assert_eq!(text.parse::<RegistryHost>().unwrap().as_str(), canonical);
        }
    }

    /// Every way of writing a host that two parsers may read differently, and every way of naming a machine directly.
    #[test]
    fn e1_registry_host_that_is_no_bare_name_is_refused() {
        for (text, why) in [
            ("", RegistryHostError::Empty),
            (" ", RegistryHostError::Character),
            ("a.azurecr.io ", RegistryHostError::Character),
            ("\ta.azurecr.io", RegistryHostError::Character),
            ("a.azurecr.io\n", RegistryHostError::Character),
            ("a.azurecr.io\r\nhost: evil.example", RegistryHostError::Character),
            ("evil.example\0.azurecr.io", RegistryHostError::Character),
            ("evil.example#.azurecr.io", RegistryHostError::Character),
            ("evil.example?.azurecr.io", RegistryHostError::Character),
            ("evil.example/.azurecr.io", RegistryHostError::Character),
            ("evil.example\\.azurecr.io", RegistryHostError::Character),
            ("a.azurecr.io@evil.example", RegistryHostError::Character),
            ("user:secret@a.azurecr.io", RegistryHostError::Character),
            ("evil%2eexample.azurecr.io", RegistryHostError::Character),
            ("%61.azurecr.io", RegistryHostError::Character),
            ("a_b.azurecr.io", RegistryHostError::Character),
            ("*.azurecr.io", RegistryHostError::Character),
            ("a,b.azurecr.io", RegistryHostError::Character),
            // A Cyrillic letter, a sign that lower-cases to k, full-width letters and dots, an invisible character.
            ("ex\u{430}mple.azurecr.io", RegistryHostError::Character),
            ("\u{212a}.azurecr.io", RegistryHostError::Character),
            ("a.azurecr.\u{ff49}\u{ff4f}", RegistryHostError::Character),
            ("a\u{3002}azurecr\u{ff0e}io", RegistryHostError::Character),
            ("a\u{200d}.azurecr.io", RegistryHostError::Character),
            ("A.XN--80AK6AA92E.azurecr.io", RegistryHostError::Punycode),
            ("[::1]", RegistryHostError::Character),
            ("::1", RegistryHostError::Character),
            ("[::ffff:127.0.0.1].azurecr.io", RegistryHostError::Character),
            ("fe80::1%eth0", RegistryHostError::Character),
            ("127.0.0.1", RegistryHostError::IpAddress),
            ("127.1", RegistryHostError::IpAddress),
            ("2130706433", RegistryHostError::NotQualified),
            ("0x7f000001", RegistryHostError::NotQualified),
            ("0177.0.0.1", RegistryHostError::IpAddress),
            ("0x7f.0x0.0x0.0x1", RegistryHostError::IpAddress),
            ("0X7F.1", RegistryHostError::IpAddress),
            ("a.azurecr.io.1", RegistryHostError::IpAddress),
            (".", RegistryHostError::Label),
            ("a.azurecr.io..", RegistryHostError::Label),
            ("a.azurecr.io-", RegistryHostError::Label),
            ("https://a.azurecr.io", RegistryHostError::Character),
            ("a.azurecr.io:443", RegistryHostError::Character),
            ("a.azurecr.io/team", RegistryHostError::Character),
            ("user@a.azurecr.io", RegistryHostError::Character),
            ("ä.azurecr.io", RegistryHostError::Character),
            ("a.azurecr.io.", RegistryHostError::Label),
            (".azurecr.io", RegistryHostError::Label),
            ("a..azurecr.io", RegistryHostError::Label),
            ("-a.azurecr.io", RegistryHostError::Label),
            ("localhost", RegistryHostError::NotQualified),
            ("10.0.0.1", RegistryHostError::IpAddress),
            ("1.0x7f", RegistryHostError::IpAddress),
            ("xn--80ak6aa92e.azurecr.io", RegistryHostError::Punycode),
        ] {
            assert_eq!(text.parse::<RegistryHost>().unwrap_err(), why, "{text:?}");
        }
        assert_eq!(
            "a.".repeat(127).parse::<RegistryHost>().unwrap_err(),
            RegistryHostError::TooLong
        );
    }

    #[test]
    fn e1_registry_host_is_as_long_as_a_name_can_be_and_no_longer() {
        let labels = |length: usize, count: usize| vec!["a".repeat(length); count].join(".");
        for (text, refused) in [
            (labels(63, 2), None),
            (labels(64, 2), Some(RegistryHostError::Label)),
            (format!("{}.{}", labels(63, 3), "a".repeat(61)), None),
            (
                format!("{}.{}", labels(63, 3), "a".repeat(62)),
                Some(RegistryHostError::TooLong),
            ),
        ] {
            assert_eq!(text.parse::<RegistryHost>().err(), refused, "{} long", text.len());
        }
    }

    #[test]
    fn registry_host_suffix_counts_at_label_boundaries_only() {
        let host: RegistryHost = "example.azurecr.io".parse().unwrap();
        assert!(host.is_under("azurecr.io"));
        for suffix in ["zurecr.io", "example.azurecr.io", "azurecr.us"] {
            assert!(!host.is_under(suffix), "{suffix}");
        }
        assert!(
            !"evilazurecr.io"
                .parse::<RegistryHost>()
                .unwrap()
                .is_under("azurecr.io")
        );
    }
}
