//! The `audit` section: the key is read here, and followed like every file that the configuration names.

use super::{
    Folder,
    field::{ConfigError, content},
    file,
};
use crate::{
    audit::FingerprintKey,
    config::{AuditConfig, AuditSink, OnBlocked},
};

/// More in a second than one broker could turn away: a figure above is a slip.
const MAX_STRANGERS_PER_SECOND: u32 = 10_000;

pub(super) fn audit(folder: &mut Folder, audit: file::Audit) -> Result<AuditConfig, ConfigError> {
    let file::Audit {
        sink,
        on_blocked,
        key_file,
        strangers_per_second,
    } = audit;
    let sink = match sink {
        file::AuditSink::Stdout => AuditSink::Stdout,
        file::AuditSink::Off => AuditSink::Off,
        file::AuditSink::File(path) if path.as_os_str().is_empty() => {
            return Err(content("audit.sink.file", "must be the path of a file"));
        }
        file::AuditSink::File(path) => AuditSink::File(folder.resolve(path)),
    };
    let on_blocked = match on_blocked {
        file::OnBlocked::Continue => OnBlocked::Continue,
        file::OnBlocked::Refuse => OnBlocked::Refuse,
    };
    if sink == AuditSink::Off && on_blocked == OnBlocked::Refuse {
        return Err(content(
            "audit.onBlocked",
            "must not be refuse where audit.sink is off: there is no record to wait for",
        ));
    }
    let default = AuditConfig::default();
    let strangers_per_second = strangers_per_second.unwrap_or(default.strangers_per_second);
    if strangers_per_second > MAX_STRANGERS_PER_SECOND {
        return Err(content(
            "audit.strangersPerSecond",
            format!("must be at most {MAX_STRANGERS_PER_SECOND}"),
        ));
    }
    let key = match key_file {
        None => None,
        Some(path) => {
            let field = "audit.keyFile";
            let key = folder.read(&folder.resolve(path), field)?;
            Some(FingerprintKey::new(&key).map_err(|error| content(field, error))?)
        }
    };
    Ok(AuditConfig {
        sink,
        on_blocked,
        key,
        strangers_per_second,
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;
    use crate::config::{Config, load};

    const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

    fn load_with(audit: &str) -> (TempDir, Result<Config, String>) {
        let folder = TempDir::new().unwrap();
        let text = format!(
            r#"
apiVersion: config.acrpull.dev/v1alpha1
kind: BrokerConfiguration
clusters:
- name: weu-7
  issuer: https://kubernetes.default.svc.cluster.local
  jwks: {{inline: '{KEYS}'}}
  callerAudiences: [acrpull-broker]
  subjectAudiences: ["api://AzureCRTokenExchange"]
  syncers: ["system:serviceaccount:acrpull-system:acrpull-syncer"]
{audit}
"#
        );
        std::fs::write(folder.path().join("key"), [7; 32]).unwrap();
        std::fs::write(folder.path().join("short"), [7; 31]).unwrap();
        std::fs::write(folder.path().join("config.yaml"), text).unwrap();
        let loaded = load(&folder.path().join("config.yaml"));
        (folder, loaded.config.map_err(|error| error.to_string()))
    }

    #[test]
    fn audit_is_on_and_goes_on_unless_the_file_says_otherwise() {
        let (_folder, config) = load_with("");
        let audit = config.unwrap().audit;
        assert_eq!(
            (audit.sink, audit.on_blocked),
            (AuditSink::Stdout, OnBlocked::Continue)
        );
        assert!(audit.key.is_none());
        assert_eq!(audit.strangers_per_second, STRANGERS);
    }

    const STRANGERS: u32 = 10;

    #[test]
    fn audit_whole_section_is_read() {
        let (folder, config) = load_with(
            "audit: {sink: {file: audit.log}, onBlocked: refuse, keyFile: key, strangersPerSecond: 0}",
        );
        let audit = config.unwrap().audit;
        assert_eq!(audit.sink, AuditSink::File(folder.path().join("audit.log")));
        assert_eq!(audit.on_blocked, OnBlocked::Refuse);
        assert_eq!(
            audit.key.unwrap().id(),
            FingerprintKey::new(&[7; 32]).unwrap().id()
        );
        assert_eq!(audit.strangers_per_second, 0);
    }

    #[test]
    fn audit_off_is_a_word_and_not_a_truth_value() {
        for text in ["audit: {sink: off}", "audit: {sink: 'off'}"] {
            let (_folder, config) = load_with(text);
            assert_eq!(config.unwrap().audit.sink, AuditSink::Off, "{text}");
        }
    }

    #[test]
    fn audit_section_that_is_wrong_is_refused_by_its_field() {
        for (audit, wanted) in [
            ("audit: {sink: syslog}", "syslog"),
            ("audit: {sink: {file: ''}}", "audit.sink.file"),
            ("audit: {sink: off, onBlocked: refuse}", "audit.onBlocked"),
            ("audit: {onBlocked: wait}", "wait"),
            ("audit: {keyFile: short}", "audit.keyFile: has 31 bytes"),
            ("audit: {keyFile: missing}", "audit.keyFile"),
            ("audit: {strangersPerSecond: 10001}", "audit.strangersPerSecond"),
            ("audit: {sinks: stdout}", "sinks"),
        ] {
            let (_folder, config) = load_with(audit);
            let error = config.unwrap_err();
            assert!(error.contains(wanted), "{audit}: {error}");
        }
    }
}
