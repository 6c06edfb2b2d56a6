//! A good file loads, with everything that may be left out, and with everything that may be said.

mod clusters;
mod refusals;

use tempfile::TempDir;

use super::*;
use crate::config::{GrantMode, GrantModes, GrantedIdentity};

const GOOD: &str = r#"
apiVersion: config.acrpull.dev/v1alpha1
kind: BrokerConfiguration
clusters:
- name: weu-7
  issuer: https://kubernetes.default.svc.cluster.local
  jwks: {file: keys.json}
  callerAudiences: [acrpull-broker]
  subjectAudiences: ["api://AzureCRTokenExchange"]
  syncers: ["system:serviceaccount:acrpull-system:acrpull-syncer"]
  defaultTenant: 22222222-2222-2222-2222-222222222222
identities:
- name: team-web
  tenant: 22222222-2222-2222-2222-222222222222
  clientId: 33333333-3333-3333-3333-000000000001
  source: imds
grants:
- name: web
  clusters: [weu-7]
  namespaces: [web]
  serviceAccounts: ["*"]
  identity: team-web
  registries: [prod.azurecr.io]
  repositories: ["team/*"]
egress:
  hostOverrides:
    "*.azurecr.io": "127.0.0.1:10444"
    "prod.azurecr.io": "127.0.0.1:10445"
    "*.geo.azurecr.io": "127.0.0.1:10446"
"#;
/// The RSA key of RFC 7517 appendix A.1, shortened to what is needed.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;

fn load_text(text: &str) -> Result<Config, ConfigError> {
    load(&written(text).path().join("config.yaml")).config
}

fn written(text: &str) -> TempDir {
    let directory = TempDir::new().unwrap();
    std::fs::write(directory.path().join("keys.json"), KEYS).unwrap();
    std::fs::write(directory.path().join("config.yaml"), text).unwrap();
    directory
}

#[test]
fn load_good_file_resolves_everything() {
    let config = load_text(GOOD).unwrap();
    assert_eq!(&*config.clusters[0].name, "weu-7");
    assert_eq!(config.policy.grants[0].actions, ["pull"]);
    assert_eq!(&*config.policy.identities[0].cloud.name, "PublicCloud");
    assert_eq!(config.egress.imds_endpoint.as_str(), "http://169.254.169.254/");
    let overrides: Vec<_> = config
        .egress
        .host_overrides
        .iter()
        .map(|rule| format!("{:?}", rule.host))
        .collect();
    assert_eq!(
        overrides,
        ["prod.azurecr.io", "*.geo.azurecr.io", "*.azurecr.io"],
        "most specific first"
    );
}

#[test]
fn e1_cloud_with_exact_registries_only_allows_no_other() {
    let cloud = "clouds:\n- {name: PublicCloud, authority: https://login.microsoftonline.com, registries: [prod.azurecr.io]}\n";
    let config = load_text(&format!("{GOOD}{cloud}")).unwrap();
    let public = config.clouds.requested("", "").unwrap();
    assert!(public.allows(&"prod.azurecr.io".parse().unwrap()));
    assert!(!public.allows(&"other.azurecr.io".parse().unwrap()));
}

#[test]
fn load_file_that_is_missing_is_not_a_matter_of_content() {
    for (from, to) in [
        ("jwks: {file: keys.json}", "jwks: {file: none.json}"),
        ("egress:", "egress:\n  caBundle: none.pem"),
        (
            "jwks: {file: keys.json}",
            "jwks: {url: 'https://x/', caBundle: none.pem}",
        ),
    ] {
        let error = load_text(&GOOD.replacen(from, to, 1)).unwrap_err();
        assert!(matches!(error, ConfigError::Read { .. }), "{to}: {error:?}");
    }
}

#[test]
fn load_token_file_is_checked_and_its_content_not_followed() {
    let by_url = "jwks: {url: 'https://x/', tokenFile: token}";
    let text = GOOD.replacen("jwks: {file: keys.json}", by_url, 1);
    let folder = written(&text);
    let (path, token) = (folder.path().join("config.yaml"), folder.path().join("token"));
    // One that is not there yet is waited for.
    let missing = load(&path);
    assert!(matches!(missing.config, Err(ConfigError::Read { field, .. }) if field.ends_with("tokenFile")));
    std::fs::write(&token, "first").unwrap();
    assert!(missing.files.have_changed());
    // One that is renewed is read again where it is used.
    let loaded = load(&path);
    assert!(loaded.config.is_ok());
    std::fs::write(&token, "second").unwrap();
    assert!(!loaded.files.have_changed());
    std::fs::write(&path, GOOD).unwrap();
    assert!(loaded.files.have_changed());
}

#[test]
fn load_grant_for_a_cluster_that_is_gone_is_a_warning() {
    let text = GOOD.replacen("clusters: [weu-7]", "clusters: [weu-8, weu-7, weu-9]", 1);
    let config = load_text(&text).unwrap();
    assert_eq!(
        config.warnings,
        [
            r#"grants[0].clusters: "weu-8" is not a cluster of this file"#,
            r#"grants[0].clusters: "weu-9" is not a cluster of this file"#,
        ]
    );
    assert!(load_text(GOOD).unwrap().warnings.is_empty());
}

#[test]
fn a4_list_that_means_any_where_it_is_left_out_is_never_empty() {
    for (field, written) in [
        ("ceilings.tenants", "ceilings: {tenants: LIST}"),
        ("ceilings.registries", "ceilings: {registries: LIST}"),
        ("clientCertificates", "clientCertificates: LIST"),
    ] {
        for list in ["[]", "null", "~", ""] {
            let cluster = format!("  {}\n  defaultTenant:", written.replace("LIST", list));
            let refused = load_text(&GOOD.replacen("  defaultTenant:", &cluster, 1));
            assert!(refused.is_err(), "{cluster}");
            if list == "[]" {
                let expected =
                    format!("clusters[0].{field}: must have at least one entry; leave it out for any");
                assert_eq!(refused.unwrap_err().to_string(), expected);
            }
        }
    }
}

#[test]
fn load_grant_modes_are_strict_unless_said_otherwise() {
    let modes = |text: &str| {
        let written = format!("  syncers: [\"system:serviceaccount:s:s\"]\n{text}");
        let from = "  syncers: [\"system:serviceaccount:acrpull-system:acrpull-syncer\"]\n";
        assert!(GOOD.contains(from));
        load_text(&GOOD.replacen(from, &written, 1)).unwrap().clusters[0].grant_modes
    };
    let strict = GrantModes {
        broker_owned: GrantMode::Enforce,
        federated: None,
    };
    for text in [
        "",
        "  grants: {}\n",
        "  grants: {federated: off}\n",
        "  grants: {federated: \"off\"}\n",
        "  grants: {federated: false}\n",
        "  grants: {brokerOwned: enforce}\n",
    ] {
        assert_eq!(modes(text), strict, "{text}");
    }
    let lenient = GrantModes {
        broker_owned: GrantMode::Report,
        federated: Some(GrantMode::Enforce),
    };
    assert_eq!(
        modes("  grants: {brokerOwned: report, federated: enforce}\n"),
        lenient
    );
}

#[test]
fn a4_two_clusters_with_one_client_certificate_are_refused() {
    let both = |second: &str| {
        let first = "  clientCertificates: [spiffe://fleet/weu-7]\n  defaultTenant:";
        let cluster = format!(
            "- name: neu-1\n  issuer: https://neu-1.example\n  jwks: {{url: 'https://neu-1.example/jwks'}}\n  callerAudiences: [acrpull-broker]\n  subjectAudiences: [\"api://AzureCRTokenExchange\"]\n  syncers: [\"system:serviceaccount:acrpull-system:acrpull-syncer\"]\n  clientCertificates: [{second}]\nidentities:"
        );
        let text = GOOD
            .replacen("  defaultTenant:", first, 1)
            .replacen("identities:", &cluster, 1);
        load_text(&text).map(|config| config.clusters.len())
    };
    assert_eq!(both("spiffe://fleet/neu-1").unwrap(), 2);
    let error = both("neu-1.example, spiffe://fleet/weu-7")
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        r#"clusters[1].clientCertificates: "spiffe://fleet/weu-7" is of cluster "weu-7" already"#
    );
}

#[test]
fn load_grant_for_federated_identities_is_canonical() {
    let text = GOOD.replacen(
        "  identity: team-web\n",
        "  federated: {tenants: [Contoso.OnMicrosoft.com], clientIds: [33333333-3333-3333-3333-00000000ABCD]}\n",
        1,
    );
    let config = load_text(&text).unwrap();
    let GrantedIdentity::Federated(clients) = &config.policy.grants[0].identity else {
        panic!("federated")
    };
    assert_eq!(&*clients.cloud, "PublicCloud");
    assert_eq!(clients.tenants[0].as_str(), "contoso.onmicrosoft.com");
    assert_eq!(
        clients.clients[0].as_str(),
        "33333333-3333-3333-3333-00000000abcd"
    );
}
