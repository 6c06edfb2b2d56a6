//! The configuration file: what loads is complete and contradicts nothing, what does not is refused in one line.

use std::fs;

use broker::config::{self, Config, GrantedIdentity, IdentitySource};
use hostile::{document, fuzz, text};
use proptest::prop_oneof;
use tempfile::TempDir;
use url::Url;

use crate::signer::Signer;

/// YAML that people and attackers write: anchors, tags, merge keys, several documents, a bomb of aliases.
const YAML: [&str; 3] = [
    "apiVersion: config.acrpull.dev/v1alpha1\nkind: BrokerConfiguration\nclusters: &clusters\n- name: a\n  issuer: https://a.example\n  jwks: {file: keys.json}\n  callerAudiences: [acrpull-broker]\n  subjectAudiences: [\"api://AzureCRTokenExchange\"]\n  syncers: [\"system:serviceaccount:s:s\"]\n",
    "a: &a [x, x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d, *d]\nf: [*e, *e, *e, *e, *e, *e, *e, *e, *e]\n",
    "---\n!!binary x: {<<: {kind: BrokerConfiguration}, apiVersion: !tag y}\n---\n? [complex]\n: |-\n  text\n",
];

/// The same in JSON, which is YAML too: every field there is.
fn complete(jwks: &str) -> String {
    let inline = serde_json::Value::from(jwks);
    format!(
        r#"{{"apiVersion":"config.acrpull.dev/v1alpha1","kind":"BrokerConfiguration",
        "clusters":[{{"name":"weu-7","issuer":"https://kubernetes.default.svc.cluster.local","jwks":{{"inline":{inline}}},
            "callerAudiences":["acrpull-broker"],"subjectAudiences":["api://AzureCRTokenExchange"],
            "syncers":["system:serviceaccount:acrpull-system:acrpull-syncer"],"operators":["system:serviceaccount:ops:ops"],
            "defaultTenant":"22222222-2222-2222-2222-222222222222",
            "grants":{{"brokerOwned":"enforce","federated":"report"}},
            "ceilings":{{"tenants":["contoso.onmicrosoft.com"],"registries":["prod.azurecr.io"]}}}},
          {{"name":"weu-8","issuer":"https://weu-8.example","jwks":{{"url":"https://weu-8.example/openid/v1/jwks"}},
            "callerAudiences":["acrpull-broker"],"subjectAudiences":["api://AzureCRTokenExchange"],"syncers":["system:serviceaccount:s:s"]}}],
        "clouds":[{{"name":"AirgappedCloud","authority":"https://login.example","registrySuffixes":["azurecr.example"],"registryAudience":"https://acr.example","federationAudience":"api://exchange.example"}}],
        "identities":[{{"name":"team-web","tenant":"22222222-2222-2222-2222-222222222222","clientId":"33333333-3333-3333-3333-000000000001","source":"imds",
            "application":{{"tenant":"fabrikam.example","clientId":"33333333-3333-3333-3333-000000000009"}}}},
          {{"name":"team-jobs","tenant":"22222222-2222-2222-2222-222222222222","clientId":"33333333-3333-3333-3333-000000000002",
            "source":{{"projectedToken":{{"file":"/run/token"}}}}}}],
        "grants":[{{"name":"web","clusters":["weu-7"],"namespaces":["web","web-*"],"serviceAccounts":["*"],"identity":"team-web",
            "registries":["prod.azurecr.io"],"repositories":["team/*"],"actions":["pull"],"registryWide":true}},
          {{"name":"federated","clusters":["weu-7"],"namespaces":["web"],"serviceAccounts":["app"],
            "federated":{{"cloud":"PublicCloud","tenants":["22222222-2222-2222-2222-222222222222"],"clientIds":["33333333-3333-3333-3333-000000000002"]}},
            "registries":["prod.azurecr.io"],"repositories":["team/*"]}}],
        "egress":{{"hostOverrides":{{"*.azurecr.io":"127.0.0.1:10444"}},"imdsEndpoint":"http://127.0.0.1:10001"}}}}"#
    )
}

/// Guarantee A4, over whatever loads.
fn is_complete(config: &Config) {
    assert!(!config.clusters.is_empty());
    for cluster in &config.clusters {
        assert_eq!(Url::parse(&cluster.issuer).unwrap().scheme(), "https");
        assert!(!cluster.caller_audiences.is_empty() && !cluster.subject_audiences.is_empty());
        let mut audiences = cluster.caller_audiences.iter().chain(&cluster.subject_audiences);
        assert!(audiences.all(|audience| !audience.is_empty() && audience.trim() == audience));
        let is_shared = |audience: &String| cluster.subject_audiences.contains(audience);
        assert!(
            !cluster.caller_audiences.iter().any(is_shared),
            "a token for both purposes"
        );
    }
    for identity in &config.policy.identities {
        let is_second_hand = matches!(identity.source, IdentitySource::ProjectedToken { .. });
        assert!(!(is_second_hand && identity.application.is_some()));
        assert!(!identity.own_audience().is_empty());
    }
    for grant in &config.policy.grants {
        match &grant.identity {
            GrantedIdentity::BrokerOwned(name) => {
                let mut identities = config.policy.identities.iter();
                let identity = identities.find(|identity| identity.name == *name);
                assert!(
                    identity.is_some_and(
                        |identity| identity.client_id.is_some() || identity.resource_id.is_some()
                    )
                );
            }
            GrantedIdentity::Federated(clients) => {
                assert!(!clients.tenants.is_empty() && !clients.clients.is_empty());
                assert!(config.clouds.named(&clients.cloud).is_some());
            }
        }
        let is_known = |name: &&String| config.clusters.iter().any(|cluster| *cluster.name == ***name);
        for unknown in grant.clusters.iter().filter(|name| !is_known(name)) {
            let named = format!("{unknown:?}");
            assert!(
                config.warnings.iter().any(|warning| warning.contains(&named)),
                "{named} goes without a word"
            );
        }
        assert!(!grant.registries.is_empty() && !grant.namespaces.is_empty());
    }
    assert_eq!(config.egress.imds_endpoint.scheme(), "http");
}

#[test]
fn fuzz_configuration_a4_is_complete_or_refused_in_one_line() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("config.yaml");
    let jwks = Signer::new().jwks();
    fs::write(directory.path().join("keys.json"), &jwks).unwrap();
    let complete = complete(&jwks);
    for seed in [complete.as_str(), YAML[0]] {
        fs::write(&path, seed).unwrap();
        is_complete(&config::load(&path).config.expect("the seed is a good file"));
    }
    fuzz(prop_oneof![document(&[&complete]), text(&YAML)], |written| {
        fs::write(&path, &written).unwrap();
        match config::load(&path).config {
            Ok(config) => is_complete(&config),
            Err(error) => {
                let text = error.to_string();
                assert!(!text.is_empty() && text.lines().count() == 1, "{text:?}");
            }
        }
    });
}
