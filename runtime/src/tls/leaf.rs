//! What is written in a certificate: whom it names and until when it is valid. Whether it is to be believed is for the
//! handshake; nothing here verifies anything.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustls_pki_types::{CertificateDer, DnsName, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// A subject alternative name that stands for a workload: a DNS name or a URI. Names are equal only where their kinds are:
/// the two never mean each other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum CertificateName {
    /// `weu-7.syncers.example`, in lower case: DNS names know none (RFC 4343).
    Dns(Box<str>),
    /// `spiffe://fleet/weu-7`, as it is written.
    Uri(Box<str>),
}

/// Why a text is no name that a certificate could have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an exact DNS name such as weu-7.syncers.example, or a URI such as spiffe://fleet/weu-7")]
pub struct NotAName;

/// The DNS names and URIs of a certificate; none, if it is not one.
pub fn names(certificate: &CertificateDer<'_>) -> Vec<CertificateName> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else {
        return Vec::new();
    };
    let dns = parsed.valid_dns_names().map(dns_name);
    let uris = parsed
        .valid_uri_names()
        .map(|uri| CertificateName::Uri(uri.into()));
    dns.chain(uris).collect()
}

/// The last moment of a certificate; none, if it is not one.
pub fn not_after(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    // The one way by which webpki tells the end: at the end of time every certificate has expired.
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let verified = parsed.verify_for_usage(&[], &[], &[], end_of_time, KeyUsage::server_auth(), None, None);
    match verified {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
        }
        Ok(_) | Err(_) => None,
    }
}

fn dns_name(name: &str) -> CertificateName {
    CertificateName::Dns(name.to_ascii_lowercase().into())
}

fn is_uri(text: &str) -> bool {
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    // By the letter of RFC 3986 `host:443` is a URI too, and never what was meant.
    let is_meant = match rest.strip_prefix("//") {
        Some(rest) => !rest.is_empty(),
        None => scheme.eq_ignore_ascii_case("urn") && !rest.is_empty(),
    };
    is_meant
        && scheme.starts_with(|first: char| first.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && rest.bytes().all(|byte| byte.is_ascii_graphic())
}

impl FromStr for CertificateName {
    type Err = NotAName;

    /// Exact names only, as a certificate has them: a wildcard is none, nor is a host with a port, nor a DNS name with the
    /// dot of the root, which no certificate may have (RFC 5280 section 4.2.1.6).
    fn from_str(text: &str) -> Result<Self, NotAName> {
        if is_uri(text) {
            Ok(Self::Uri(text.into()))
        } else if !text.ends_with('.') && DnsName::try_from(text).is_ok() {
            Ok(dns_name(text))
        } else {
            Err(NotAName)
        }
    }
}

impl fmt::Display for CertificateName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Uri(name) => f.write_str(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn certificate(sans: Vec<SanType>) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.subject_alt_names = sans;
        params.not_after = rcgen::date_time_ymd(2049, 12, 31);
        let key = KeyPair::generate().unwrap();
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn names_are_dns_names_and_uris_and_nothing_else() {
        let certificate = certificate(vec![
            SanType::DnsName("Weu-7.Syncers.Example".try_into().unwrap()),
            SanType::DnsName("*.syncers.example".try_into().unwrap()),
            SanType::URI("spiffe://fleet/Weu-7".try_into().unwrap()),
            SanType::Rfc822Name("weu-7@example.com".try_into().unwrap()),
            SanType::IpAddress([10, 0, 0, 1].into()),
        ]);
        assert_eq!(
            names(&certificate),
            [
                CertificateName::Dns("weu-7.syncers.example".into()),
                CertificateName::Dns("*.syncers.example".into()),
                CertificateName::Uri("spiffe://fleet/Weu-7".into()),
            ]
        );
    }

    #[test]
    fn name_that_is_written_is_exact_and_of_one_kind() {
        let parsed = |text: &str| text.parse::<CertificateName>();
        assert_eq!(
            parsed("Weu-7.syncers.example"),
            Ok(CertificateName::Dns("weu-7.syncers.example".into()))
        );
        assert_eq!(
            parsed("spiffe://fleet/weu-7"),
            Ok(CertificateName::Uri("spiffe://fleet/weu-7".into()))
        );
        for text in [
            "",
            "*.syncers.example",
            "a b",
            ":x",
            "spiffe:",
            "1x://y",
            "spiffe://fleet/a b",
        ] {
            assert_eq!(parsed(text), Err(NotAName), "{text:?}");
        }
    }

    #[test]
    fn a4_name_that_no_certificate_could_have_is_refused_where_it_is_written() {
        for text in [
            "weu-7.syncers.example:443",
            "localhost:443",
            "weu-7.syncers.example.",
            "spiffe://",
            "urn:",
            "mailto:weu-7@example.com",
        ] {
            assert_eq!(text.parse::<CertificateName>(), Err(NotAName), "{text:?}");
        }
        for uri in [
            "spiffe://fleet/weu-7",
            "https://weu-7.example:443",
            "urn:fleet:weu-7",
        ] {
            assert_eq!(uri.parse(), Ok(CertificateName::Uri(uri.into())));
        }
    }

    #[test]
    fn not_after_is_the_last_moment_of_a_certificate() {
        let end = not_after(&certificate(Vec::new())).unwrap();
        // 2049-12-31T00:00:00Z
        assert_eq!(end.duration_since(UNIX_EPOCH).unwrap().as_secs(), 2_524_521_600);
        assert_eq!(not_after(&CertificateDer::from(vec![0x30, 0])), None);
    }
}
