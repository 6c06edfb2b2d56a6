//! Three clusters in front of one broker, and an Azure that gives every identity everything: whoever is refused is refused
//! by the broker's policy.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use axum::{Router, body::Body};
use azure_simulator::{InProcess, Issuer, Principal, Registry, Role, ServiceAccountToken, State};
use broker::{
    audit::Audit,
    authn::{Authenticator, Cluster, KeyStore},
    config::{self, KeySource},
    live::{Live, Snapshot},
    metrics::{AuditMetrics, Metrics},
    serve,
    service::Service,
};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tower::ServiceExt as _;

use super::{
    super::rig::{VirtualClock, claims, credentials},
    model::{Ask, Asked, Grant, Rules, To},
};

pub(crate) const CLUSTERS: usize = 3;
/// The one tenant there is ...
pub(crate) const TENANT: &str = "22222222-2222-2222-2222-222222222222";
/// ... and one that is only named.
pub(crate) const DOMAIN: &str = "contoso.onmicrosoft.com";
/// Client IDs of what the broker's machine has.
pub(crate) const OWNED: [&str; 3] = [
    "33333333-3333-3333-3333-000000000001",
    "33333333-3333-3333-3333-000000000002",
    "33333333-3333-3333-3333-000000000003",
];
/// Client IDs of applications that trust every ServiceAccount.
pub(crate) const FEDERATED: [&str; 2] = [
    "33333333-3333-3333-3333-00000000000a",
    "33333333-3333-3333-3333-00000000000b",
];
const CALLER_AUDIENCE: &str = "acrpull-broker";
const SUBJECT_AUDIENCE: &str = "api://AzureCRTokenExchange";
const SYNCER: (&str, &str) = ("acrpull-system", "acrpull-syncer");

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Token {
        /// Where it is good.
        registry: Value,
        /// Whose rights it has.
        client: Value,
        /// What for.
        access: Value,
    },
    Refused(String),
}

pub(crate) struct World {
    azure: InProcess,
    clock: Arc<VirtualClock>,
    /// The tokens of ServiceAccounts: cluster, namespace, name and audience.
    tokens: BTreeMap<(usize, String, String, &'static str), String>,
    folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(VirtualClock::starting_now());
        let azure = InProcess::new(azure(), Arc::clone(&clock).of_azure()).unwrap();
        let mut tokens = BTreeMap::new();
        let subjects = subjects().map(|subject| (subject, SUBJECT_AUDIENCE));
        let syncer = (SYNCER.0.to_owned(), SYNCER.1.to_owned());
        for ((namespace, name), audience) in subjects.chain([(syncer, CALLER_AUDIENCE)]) {
            for cluster in 0..CLUSTERS {
                let mut wanted = ServiceAccountToken::new(&issuer(cluster), &namespace, &name, audience);
                wanted.ttl = 30 * 24 * 3600;
                let token = azure.service_account_token(&wanted).unwrap();
                tokens.insert((cluster, namespace.clone(), name.clone(), audience), token);
            }
        }
        Self {
            azure,
            clock,
            tokens,
            folder: TempDir::new().unwrap(),
        }
    }

    /// A broker that was just started with these rules, written down as an operator would.
    pub(crate) async fn broker(&self, rules: &Rules) -> Router {
        let config = config::load(&self.written(rules)).config.unwrap();
        let clusters = config.clusters.into_iter().map(|config| {
            let keys = match &config.keys {
                KeySource::Fixed(keys) => KeyStore::with(keys.clone()),
                KeySource::Url(_) => KeyStore::default(),
            };
            Arc::new(Cluster { config, keys })
        });
        let snapshot = Snapshot {
            authenticator: Arc::new(Authenticator::new(
                clusters.collect(),
                Arc::<VirtualClock>::clone(&self.clock),
            )),
            clouds: config.clouds,
            policy: config.policy,
        };
        let mut registry = prometheus_client::registry::Registry::default();
        let metrics = Metrics::register(&mut registry);
        let clock = Arc::<VirtualClock>::clone(&self.clock);
        let (audit, _no_writer) =
            Audit::start(config.audit, clock, AuditMetrics::register(&mut registry)).unwrap();
        let credentials = credentials(&self.azure, &Arc::default(), &self.clock, &metrics);
        let service = Service::new(Live::new(snapshot), credentials, metrics, audit);
        serve::router(service).await.0
    }

    /// The syncer of its cluster asks.
    pub(crate) async fn ask(&self, broker: &Router, ask: &Ask) -> Outcome {
        let syncer = (
            ask.cluster,
            SYNCER.0.to_owned(),
            SYNCER.1.to_owned(),
            CALLER_AUDIENCE,
        );
        let request = Request::post("/v1/access-token")
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.tokens[&syncer]))
            .body(Body::from(self.message(ask).to_string()))
            .unwrap();
        let response = broker.clone().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        match answer["token"].as_str() {
            Some(token) => {
                let claims = claims(token);
                Outcome::Token {
                    registry: claims["aud"].clone(),
                    client: claims["appid"].clone(),
                    access: claims["access"].clone(),
                }
            }
            None => Outcome::Refused(answer["reason"].as_str().unwrap().to_owned()),
        }
    }

    fn message(&self, ask: &Ask) -> Value {
        let actions = ask.actions.join(",");
        let scopes: Vec<String> = ask
            .repositories
            .iter()
            .map(|name| format!("repository:{name}:{actions}"))
            .collect();
        let mut message = json!({
            "binding": {"namespace": ask.namespace, "name": "binding"},
            "serviceAccounts": ask.service_accounts,
            "registry": ask.registry,
            "scopes": scopes,
        });
        match &ask.identity {
            Asked::Owned { client } => message["brokerOwned"] = json!({"clientId": client}),
            Asked::Federated {
                tenant,
                client,
                subject: (cluster, namespace, name),
            } => {
                let subject = (*cluster, namespace.clone(), name.clone(), SUBJECT_AUDIENCE);
                message["federated"] = json!({
                    "tenantId": tenant.clone().unwrap_or_default(),
                    "clientId": client,
                    "subjectToken": self.tokens[&subject],
                });
            }
        }
        message
    }

    fn written(&self, rules: &Rules) -> PathBuf {
        let clusters: Vec<Value> = rules
            .clusters
            .iter()
            .enumerate()
            .map(|(number, cluster)| {
                json!({
                    "name": name(number), "issuer": issuer(number),
                    "jwks": {"inline": self.azure.issuer_jwks_json(&issuer(number)).unwrap()},
                    "callerAudiences": [CALLER_AUDIENCE], "subjectAudiences": [SUBJECT_AUDIENCE],
                    "syncers": [format!("system:serviceaccount:{}:{}", SYNCER.0, SYNCER.1)],
                    "defaultTenant": cluster.default_tenant,
                    "grants": {"brokerOwned": cluster.broker_owned, "federated": cluster.federated},
                    "ceilings": {"tenants": cluster.tenants, "registries": cluster.registries},
                })
            })
            .collect();
        let identities: Vec<Value> = rules
            .declared
            .iter()
            .map(|client| json!({"name": client, "tenant": TENANT, "clientId": client, "source": "imds"}))
            .collect();
        let grants: Vec<Value> = rules
            .grants
            .iter()
            .enumerate()
            .map(|(number, grant)| written_grant(number, grant))
            .collect();
        let path = self.folder.path().join("config.yaml");
        let document = json!({
            "apiVersion": "config.acrpull.dev/v1alpha1", "kind": "BrokerConfiguration",
            "clusters": clusters, "identities": identities, "grants": grants, "audit": {"sink": "off"},
        });
        std::fs::write(&path, document.to_string()).unwrap();
        path
    }
}

fn written_grant(number: usize, grant: &Grant) -> Value {
    let clusters: Vec<String> = grant.clusters.iter().map(|cluster| name(*cluster)).collect();
    let mut written = json!({
        "name": format!("grant-{number}"), "clusters": clusters, "namespaces": grant.namespaces,
        "serviceAccounts": grant.service_accounts, "registries": grant.registries,
        "repositories": grant.repositories, "actions": grant.actions, "registryWide": grant.registry_wide,
    });
    match &grant.to {
        To::Owned { client } => written["identity"] = json!(client),
        To::Federated { tenants, clients } => {
            written["federated"] = json!({"tenants": tenants, "clientIds": clients});
        }
    }
    written
}

fn name(cluster: usize) -> String {
    format!("cluster-{cluster}")
}

fn issuer(cluster: usize) -> String {
    format!("https://oidc.example/cluster-{cluster}/")
}

fn subjects() -> impl Iterator<Item = (String, String)> {
    ["web", "web-2", "data"]
        .into_iter()
        .flat_map(|namespace| ["app", "job"].map(|name| (namespace.to_owned(), name.to_owned())))
}

/// Everybody may pull and push everywhere.
fn azure() -> State {
    let mut state = State::default().with_tenant(TENANT);
    let object = |client: &str| client.replace('3', "4");
    for cluster in 0..CLUSTERS {
        state = state.with_issuer(Issuer::simulated(&issuer(cluster)));
    }
    for client in OWNED {
        let resource = format!(
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{client}"
        );
        state = state.with_vm_identity(Principal::user_assigned(
            TENANT,
            client,
            &object(client),
            &resource,
        ));
    }
    for client in FEDERATED {
        let mut app = Principal::app(TENANT, client, &object(client));
        for cluster in 0..CLUSTERS {
            for (namespace, name) in subjects() {
                let subject = format!("system:serviceaccount:{namespace}:{name}");
                app = app.federated(&issuer(cluster), &subject, SUBJECT_AUDIENCE);
            }
        }
        state = state.with_principal(app);
    }
    for host in ["r0.azurecr.io", "r1.azurecr.io"] {
        let mut registry = Registry::new(host, TENANT);
        for client in OWNED.iter().chain(&FEDERATED) {
            registry.grant(&object(client), Role::AcrPush, None);
        }
        state = state.with_registry(registry);
    }
    state
}
