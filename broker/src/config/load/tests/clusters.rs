//! What an entry of `clusters` says of its keys and of the tokens that they sign.

use std::time::Duration;

use super::{GOOD, load, load_text, written};
use crate::config::ConfigError;

const BY_FILE: &str = "jwks: {file: keys.json}";

#[test]
fn a4_ca_bundle_of_a_cluster_that_holds_no_certificate_is_refused_by_its_field() {
    let text = GOOD.replacen(BY_FILE, "jwks: {url: 'https://x/', caBundle: ca.pem}", 1);
    let folder = written(&text);
    let load_with = |bundle: &str| {
        std::fs::write(folder.path().join("ca.pem"), bundle).unwrap();
        load(&folder.path().join("config.yaml")).config
    };
    for bundle in [
        "",
        "nothing",
        "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n",
        "-----BEGIN CERTIFICATE-----\n???\n-----END CERTIFICATE-----\n",
    ] {
        let error = load_with(bundle).unwrap_err();
        assert!(
            matches!(&error, ConfigError::Content { field, .. } if field == "clusters[0].jwks.caBundle"),
            "{bundle:?}: {error:?}"
        );
    }
    let rcgen::CertifiedKey { cert, .. } =
        rcgen::generate_simple_self_signed(["x.example".to_owned()]).unwrap();
    assert!(load_with(&cert.pem()).is_ok());
}

#[test]
fn a6_life_of_tokens_is_an_hour_and_a_minute_unless_said_otherwise() {
    let with = |line: &str| load_text(&GOOD.replacen(BY_FILE, &format!("{BY_FILE}\n  {line}"), 1));
    let life = |line: &str| with(line).map(|config| config.clusters[0].max_token_lifetime);
    assert_eq!(life("").unwrap(), Duration::from_secs(3660));
    for seconds in [600, 86_400] {
        let line = format!("maxTokenLifetimeSeconds: {seconds}");
        assert_eq!(life(&line).unwrap(), Duration::from_secs(seconds));
    }
    for wrong in ["0", "599", "86401", "31536000"] {
        let error = life(&format!("maxTokenLifetimeSeconds: {wrong}"))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("clusters[0].maxTokenLifetimeSeconds: "),
            "{error}"
        );
        assert!(
            error.contains("from 600") && error.contains("to 86400"),
            "{error}"
        );
    }
    for wrong in ["1h", "-1", "600.5"] {
        assert!(
            life(&format!("maxTokenLifetimeSeconds: {wrong}")).is_err(),
            "{wrong}"
        );
    }
}

/// What is written is refused whatever its issuer: unlike what somebody publishes, it is for the operator to put right.
#[test]
fn a2_written_key_of_two_clusters_is_refused_under_different_issuers_too() {
    let second = "- name: neu-1\n  issuer: https://neu-1.example\n  jwks: {file: keys.json}\n  callerAudiences: [acrpull-broker]\n  subjectAudiences: [\"api://AzureCRTokenExchange\"]\n  syncers: [\"system:serviceaccount:s:s\"]\nidentities:";
    let error = load_text(&GOOD.replacen("identities:", second, 1))
        .unwrap_err()
        .to_string();
    assert!(error.contains("share a signing key"), "{error}");
}
