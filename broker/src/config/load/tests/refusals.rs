//! Guarantee A4: whatever is missing, contradicts itself or could never match is refused by the name of the field. The other
//! way round, over files that nobody would write: `tests/fuzz/configuration.rs`.

use super::{GOOD, load_text};
use crate::config::ConfigError;

/// What is written instead of what, and the field that is named.
const WRONG: &[(&str, &str, &[&str])] = &[
    ("apiVersion", "v1alpha1", &["v2"]),
    ("kind", "kind: BrokerConfiguration", &["kind: Broker"]),
    ("nam", "clusters:\n- name: weu-7", &["clusters:\n- nam: weu-7"]),
    ("clusters[0].issuer", "issuer: https:", &["issuer: http:"]),
    (
        "clusters[0].jwks",
        "jwks: {file: keys.json}",
        &[
            "jwks: {}",
            "jwks: {file: keys.json, inline: '{}'}",
            "jwks: {file: keys.json, caBundle: x}",
        ],
    ),
    (
        "clusters[0].jwks.inline",
        "jwks: {file: keys.json}",
        &["jwks: {inline: '{}'}"],
    ),
    (
        "clusters[0].jwks.url",
        "jwks: {file: keys.json}",
        &["jwks: {url: 'http://x/'}", "jwks: {url: 'https:x/keys'}"],
    ),
    (
        "clusters[0].callerAudiences",
        "callerAudiences: [acrpull-broker]",
        &[
            "callerAudiences: []",
            "callerAudiences: [' ']",
            "callerAudiences: ['']",
            "callerAudiences: [' acrpull-broker']",
            "callerAudiences: ['acrpull-broker ']",
            "callerAudiences: [\"acrpull\\tbroker\"]",
        ],
    ),
    (
        "subjectAudiences",
        "callerAudiences: [acrpull-broker]",
        &["callerAudiences: ['api://AzureCRTokenExchange']"],
    ),
    (
        "clusters[0].syncers",
        "system:serviceaccount:acrpull-system:acrpull-syncer",
        &[
            "admin",
            "system:serviceaccount:acrpull-system",
            "system:serviceaccount::acrpull-syncer",
            "system:serviceaccount:Acrpull:acrpull-syncer",
            "system:serviceaccount:acrpull.system:acrpull-syncer",
            "system:serviceaccount:acrpull-system:a b",
            "system:serviceaccount:acrpull-system:*",
            "system:serviceaccount:a:b:c",
            "system:serviceaccount:a:b ",
        ],
    ),
    (
        "clusters[0].defaultTenant",
        "defaultTenant: 22222222-2222-2222-2222-222222222222",
        &["defaultTenant: common"],
    ),
    (
        "identities[0].clientId",
        "clientId: 33333333-3333-3333-3333-000000000001",
        &["clientId: web"],
    ),
    (
        "identities[0]",
        "  clientId: 33333333-3333-3333-3333-000000000001\n",
        &[""],
    ),
    ("magic", "source: imds", &["source: magic"]),
    (
        "identities[0].cloud",
        "source: imds",
        &["source: imds\n  cloud: Mars"],
    ),
    ("grants[0].clusters", "clusters: [weu-7]", &["clusters: []"]),
    ("grants[0].identity", "identity: team-web", &["identity: team-x"]),
    (
        "grants[0].namespaces",
        "namespaces: [web]",
        &[
            "namespaces: []",
            "namespaces: [Web]",
            "namespaces: [web/x]",
            "namespaces: [web.x]",
            "namespaces: [' ']",
            "namespaces: ['']",
            "namespaces: ['-*']",
        ],
    ),
    (
        "grants[0].registries",
        "registries: [prod.azurecr.io]",
        &[
            "registries: ['https://prod.azurecr.io']",
            "registries: []",
            "registries: ['*.azurecr.io']",
            "registries: [prod.azurecr.us]",
        ],
    ),
    (
        "grants[0].repositories",
        "repositories: [\"team/*\"]",
        &[
            "repositories: []",
            "repositories: [/team/*]",
            "repositories: [team/]",
            "repositories: [Team/*]",
            "repositories: [team//*]",
            "repositories: [../*]",
            "repositories: ['team/*:v1']",
            "repositories: ['']",
        ],
    ),
    ("egress.hostOverrides", "\"*.azurecr.io\"", &["\"a.*.io\""]),
    (
        "egress.imdsEndpoint",
        "egress:",
        &[
            "egress:\n  imdsEndpoint: ftp://x",
            "egress:\n  imdsEndpoint: http://x/metadata",
            "egress:\n  imdsEndpoint: http://x/?y",
            "egress:\n  imdsEndpoint: http://x/#y",
            "egress:\n  imdsEndpoint: http://user@x",
            "egress:\n  imdsEndpoint: http://:word@x",
        ],
    ),
    (
        "clusters[0].issuer",
        "issuer: https://kubernetes.default.svc.cluster.local",
        &[
            "issuer: 'https:ä//x'",
            "issuer: 'https:x'",
            "issuer: 'https:\\x'",
            "issuer: 'https:///x'",
            "issuer: 'https://'",
            "issuer: 'https://ä.example'",
            "issuer: 'https://x.example/ y'",
            "issuer: 'https://user@x.example'",
            "issuer: 'https://x.example?y'",
            "issuer: 'https://x.example#y'",
            "issuer: 'HTTPS://x.example'",
            "issuer: 'https://%78.example'",
        ],
    ),
    (
        "clusters[0].subjectAudiences",
        "subjectAudiences: [\"api://AzureCRTokenExchange\"]",
        &["subjectAudiences: []", "subjectAudiences: [' ']"],
    ),
    (
        "clusters[0].syncers",
        "syncers: [\"system:serviceaccount:acrpull-system:acrpull-syncer\"]",
        &["syncers: []"],
    ),
    (
        "clusters[0].operators",
        "  defaultTenant: 22222222-2222-2222-2222-222222222222",
        &["  operators: [admin]"],
    ),
    (
        "off",
        "  defaultTenant: 22222222-2222-2222-2222-222222222222",
        &["  grants: {brokerOwned: off}"],
    ),
    (
        "maybe",
        "  defaultTenant: 22222222-2222-2222-2222-222222222222",
        &["  grants: {federated: maybe}"],
    ),
    (
        "federal",
        "  defaultTenant: 22222222-2222-2222-2222-222222222222",
        &["  grants: {federal: off}"],
    ),
    (
        "clusters[0].ceilings.tenants",
        "  defaultTenant: 22222222-2222-2222-2222-222222222222",
        &[
            "  ceilings: {tenants: [common]}",
            "  ceilings: {tenants: []}",
            "  ceilings: {tenants: [], registries: [prod.azurecr.io]}",
        ],
    ),
    (
        "clusters[0].ceilings.registries",
        "  defaultTenant: 22222222-2222-2222-2222-222222222222",
        &[
            "  ceilings: {registries: [localhost]}",
            "  ceilings: {registries: []}",
        ],
    ),
    (
        "ceiling",
        "  defaultTenant: 22222222-2222-2222-2222-222222222222",
        &["  ceiling: {}"],
    ),
    (
        "clouds[0].authority",
        "identities:",
        &[
            "clouds: [{name: a, authority: 'http://a.example', registrySuffixes: [azurecr.a]}]\nidentities:",
            "clouds: [{name: a, authority: 'https:a.example', registrySuffixes: [azurecr.a]}]\nidentities:",
        ],
    ),
    (
        "clouds[0].registrySuffixes",
        "identities:",
        &[
            "clouds: [{name: a, authority: 'https://a.example', registrySuffixes: [A.example]}]\nidentities:",
            "clouds: [{name: a, authority: 'https://a.example', registrySuffixes: [a.example.]}]\nidentities:",
            "clouds: [{name: a, authority: 'https://a.example', registrySuffixes: [example]}]\nidentities:",
        ],
    ),
    (
        "clouds[0]",
        "identities:",
        &[
            "clouds: [{name: a, authority: 'https://a.example'}]\nidentities:",
            "clouds: [{name: a, authority: 'https://a.example', registrySuffixes: []}]\nidentities:",
        ],
    ),
    (
        "clouds[0].registries",
        "identities:",
        &[
            "clouds: [{name: a, authority: 'https://a.example', registries: ['a.a.example:443']}]\nidentities:",
        ],
    ),
    (
        "clusters[0].clientCertificates",
        "  defaultTenant:",
        &[
            "  clientCertificates: ['*.syncers.example']\n  defaultTenant:",
            "  clientCertificates: []\n  defaultTenant:",
        ],
    ),
    (
        "grants[0].serviceAccounts",
        "serviceAccounts: [\"*\"]",
        &[
            "serviceAccounts: []",
            "serviceAccounts: [App]",
            "serviceAccounts: [app/x]",
            "serviceAccounts: [a_b]",
        ],
    ),
    (
        "grants[0].actions",
        "repositories: [\"team/*\"]",
        &[
            "repositories: [\"team/*\"]\n  actions: []",
            "repositories: [\"team/*\"]\n  actions: [Pull]",
            "repositories: [\"team/*\"]\n  actions: ['pull,push']",
            "repositories: [\"team/*\"]\n  actions: ['pull ']",
            "repositories: [\"team/*\"]\n  actions: ['']",
        ],
    ),
    (
        "grants[0]",
        "  identity: team-web\n",
        &[
            "",
            "  identity: team-web\n  federated: {tenants: [a.example], clientIds: [33333333-3333-3333-3333-000000000001]}\n",
        ],
    ),
    (
        "grants[0].federated.tenants",
        "  identity: team-web\n",
        &[
            "  federated: {tenants: [], clientIds: [33333333-3333-3333-3333-000000000001]}\n",
            "  federated: {tenants: [common], clientIds: [33333333-3333-3333-3333-000000000001]}\n",
        ],
    ),
    (
        "grants[0].federated.clientIds",
        "  identity: team-web\n",
        &[
            "  federated: {tenants: [a.example], clientIds: []}\n",
            "  federated: {tenants: [a.example], clientIds: ['*']}\n",
        ],
    ),
    (
        "clientIds",
        "  identity: team-web\n",
        &["  federated: {tenants: [a.example]}\n"],
    ),
    (
        "grants[0].federated.cloud",
        "  identity: team-web\n",
        &[
            "  federated: {cloud: Mars, tenants: [a.example], clientIds: [33333333-3333-3333-3333-000000000001]}\n",
        ],
    ),
    ("name", "name: weu-7", &["name: weu-7\n  name: again"]),
];

#[test]
fn a4_content_that_is_wrong_is_refused_by_the_name_of_its_field() {
    for (named, from, wrong) in WRONG {
        assert!(GOOD.contains(from), "{from}");
        for to in *wrong {
            let error = load_text(&GOOD.replacen(from, to, 1)).expect_err(to);
            assert!(!matches!(error, ConfigError::Read { .. }), "{to}: {error:?}");
            assert!(error.to_string().contains(named), "{to}: {error}");
        }
    }
}

#[test]
fn a4_two_clusters_with_one_key_are_refused() {
    let second = GOOD.replacen(
        "identities:",
        "- name: neu-1\n  issuer: https://kubernetes.default.svc.cluster.local\n  jwks: {file: keys.json}\n  callerAudiences: [acrpull-broker]\n  subjectAudiences: [\"api://AzureCRTokenExchange\"]\n  syncers: [\"system:serviceaccount:acrpull-system:acrpull-syncer\"]\nidentities:",
        1,
    );
    let error = load_text(&second).unwrap_err().to_string();
    assert!(error.contains("share a signing key"), "{error}");
}

#[test]
fn a4_two_clusters_with_one_jwks_url_are_refused() {
    let by_url = GOOD.replacen("{file: keys.json}", "{url: 'https://keys.example/jwks'}", 1);
    let second = by_url.replacen(
        "identities:",
        "- name: neu-1\n  issuer: https://neu-1.example\n  jwks: {url: 'https://keys.example/jwks'}\n  callerAudiences: [acrpull-broker]\n  subjectAudiences: [\"api://AzureCRTokenExchange\"]\n  syncers: [\"system:serviceaccount:s:s\"]\nidentities:",
        1,
    );
    assert!(load_text(&by_url).is_ok());
    let error = load_text(&second).unwrap_err().to_string();
    assert!(error.contains("share a JWKS URL"), "{error}");
}

#[test]
fn a4_no_cluster_is_refused() {
    let text = "apiVersion: config.acrpull.dev/v1alpha1\nkind: BrokerConfiguration\n";
    assert!(load_text(text).unwrap_err().to_string().starts_with("clusters"));
}
