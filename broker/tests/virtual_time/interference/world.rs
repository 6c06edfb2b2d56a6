//! Three clusters in front of one broker, two of which share an issuer, and an Azure of two tenants that gives every
//! identity everything in its own: whoever is refused there is refused by the broker's policy.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use axum::{Router, body::Body};
use azure_simulator::{InProcess, Issuer, IssuerKeys, Principal, Registry, Role, ServiceAccountToken, State};
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
/// The tenant of the broker's identities ...
pub(crate) const TENANT: &str = "22222222-2222-2222-2222-222222222222";
/// ... another one, in which the applications are present too ...
pub(crate) const OTHER_TENANT: &str = "22222222-2222-2222-2222-22222222222b";
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
/// The registries, each with its tenant: it takes tokens of no other.
pub(crate) const REGISTRIES: [(&str, &str); 3] = [
    ("r0.azurecr.io", TENANT),
    ("r1.azurecr.io", TENANT),
    ("r2.azurecr.io", OTHER_TENANT),
];
const CALLER_AUDIENCE: &str = "acrpull-broker";
const SUBJECT_AUDIENCE: &str = "api://AzureCRTokenExchange";
const SYNCER: (&str, &str) = ("acrpull-system", "acrpull-syncer");
/// Of the first cluster.
const OPERATOR: (&str, &str) = ("platform", "operator");

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Token {
        /// Where it is good.
        registry: Value,
        /// Whose rights it has.
        client: Value,
        /// As which object, which tells the tenants of an application apart.
        object: Value,
        /// What for.
        access: Value,
    },
    Refused(String),
}

/// What an operator is told of a request.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) verdict: String,
    pub(crate) reason: String,
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
        let callers = [SYNCER, OPERATOR]
            .map(|(namespace, name)| ((namespace.to_owned(), name.to_owned()), CALLER_AUDIENCE));
        for ((namespace, name), audience) in subjects.chain(callers) {
            for cluster in 0..CLUSTERS {
                let mut wanted = ServiceAccountToken::new(issuer(cluster), &namespace, &name, audience);
                wanted.kid = Some(name_of(cluster));
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
        let answer = self
            .post(
                broker,
                "/v1/access-token",
                (ask.cluster, SYNCER),
                &self.message(ask),
            )
            .await;
        match answer["token"].as_str() {
            Some(token) => {
                let claims = claims(token);
                Outcome::Token {
                    registry: claims["aud"].clone(),
                    client: claims["appid"].clone(),
                    object: claims["sub"].clone(),
                    access: claims["access"].clone(),
                }
            }
            None => Outcome::Refused(answer["reason"].as_str().unwrap().to_owned()),
        }
    }

    /// An operator of another cluster, or of the same one, asks how the request fares.
    pub(crate) async fn explain(&self, broker: &Router, ask: &Ask) -> Explained {
        let message = json!({"request": self.message(ask), "cluster": name_of(ask.cluster)});
        let answer = self.post(broker, "/v1/explain", (0, OPERATOR), &message).await;
        Explained {
            verdict: answer["verdict"].as_str().unwrap().to_owned(),
            reason: answer["reason"].as_str().unwrap_or_default().to_owned(),
        }
    }

    /// The answer to `message` of a caller that is this account of a cluster.
    async fn post(
        &self,
        broker: &Router,
        path: &str,
        (cluster, account): (usize, (&str, &str)),
        message: &Value,
    ) -> Value {
        let caller = (
            cluster,
            account.0.to_owned(),
            account.1.to_owned(),
            CALLER_AUDIENCE,
        );
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", self.tokens[&caller]))
            .body(Body::from(message.to_string()))
            .unwrap();
        let response = broker.clone().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    /// The keys with which one cluster signs, and not those of others with its issuer.
    fn jwks(&self, cluster: usize) -> String {
        let all = self.azure.issuer_jwks_json(issuer(cluster)).unwrap();
        let mut jwks: Value = serde_json::from_str(&all).unwrap();
        let keys = jwks["keys"].as_array_mut().unwrap();
        keys.retain(|key| key["kid"] == name_of(cluster));
        assert_eq!(keys.len(), 1);
        jwks.to_string()
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
                let mut written = json!({
                    "name": name_of(number), "issuer": issuer(number),
                    "jwks": {"inline": self.jwks(number)},
                    "callerAudiences": [CALLER_AUDIENCE], "subjectAudiences": [SUBJECT_AUDIENCE],
                    "syncers": [format!("system:serviceaccount:{}:{}", SYNCER.0, SYNCER.1)],
                    "defaultTenant": cluster.default_tenant,
                    "grants": {"brokerOwned": cluster.broker_owned, "federated": cluster.federated},
                    "ceilings": {},
                });
                for (ceiling, list) in [("tenants", &cluster.tenants), ("registries", &cluster.registries)] {
                    if !list.is_empty() {
                        written["ceilings"][ceiling] = json!(list);
                    }
                }
                if number == 0 {
                    written["operators"] =
                        json!([format!("system:serviceaccount:{}:{}", OPERATOR.0, OPERATOR.1)]);
                }
                written
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
    let clusters: Vec<String> = grant.clusters.iter().map(|cluster| name_of(*cluster)).collect();
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

/// Also the ID of its key.
fn name_of(cluster: usize) -> String {
    format!("cluster-{cluster}")
}

/// Two share one, as clusters that nobody configured otherwise do.
fn issuer(cluster: usize) -> &'static str {
    if cluster < 2 {
        "https://kubernetes.default.svc.cluster.local"
    } else {
        "https://oidc.example/cluster-2/"
    }
}

/// The object that a client is in a tenant.
pub(crate) fn object(client: &str, tenant: &str) -> String {
    let first = if tenant == TENANT { "4" } else { "5" };
    client.replace('3', first)
}

fn subjects() -> impl Iterator<Item = (String, String)> {
    ["web", "web-2", "data"]
        .into_iter()
        .flat_map(|namespace| ["app", "job"].map(|name| (namespace.to_owned(), name.to_owned())))
}

/// Everybody may pull and push everywhere in the tenants where they are.
fn azure() -> State {
    let mut state = State::default().with_tenant(TENANT).with_tenant(OTHER_TENANT);
    let mut keys = BTreeMap::<&str, Vec<String>>::new();
    for cluster in 0..CLUSTERS {
        keys.entry(issuer(cluster)).or_default().push(name_of(cluster));
    }
    for (url, kids) in &keys {
        let mut issuer = Issuer::simulated(url);
        issuer.keys = IssuerKeys::Simulated { kids: kids.clone() };
        state = state.with_issuer(issuer);
    }
    for client in OWNED {
        let resource = format!(
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{client}"
        );
        state = state.with_vm_identity(Principal::user_assigned(
            TENANT,
            client,
            &object(client, TENANT),
            &resource,
        ));
    }
    for client in FEDERATED {
        let mut app = Principal::app(TENANT, client, &object(client, TENANT));
        for issuer in keys.keys() {
            for (namespace, name) in subjects() {
                let subject = format!("system:serviceaccount:{namespace}:{name}");
                app = app.federated(issuer, &subject, SUBJECT_AUDIENCE);
            }
        }
        let abroad = Principal::of_application(TENANT, OTHER_TENANT, client, &object(client, OTHER_TENANT));
        state = state.with_principal(app).with_principal(abroad);
    }
    for (host, tenant) in REGISTRIES {
        let mut registry = Registry::new(host, tenant);
        let owned: &[&str] = if tenant == TENANT { &OWNED } else { &[] };
        for client in owned.iter().chain(&FEDERATED) {
            registry.grant(&object(client, tenant), Role::AcrPush, None);
        }
        state = state.with_registry(registry);
    }
    state
}
