//! Three clusters in front of one broker, two of which share an issuer: tokens of everybody in them, and what they are
//! answered.

use std::{cell::RefCell, collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use azure_simulator::{InProcess, ServiceAccountToken};
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
use tokio::time::Instant;
use tower::ServiceExt as _;

use super::{
    super::rig::{VirtualClock, claims, credentials},
    simulated::{SUBJECT_AUDIENCE, azure, issuer, name_of},
    terms::{Ask, Asked, Rules, Who},
    written::{CALLER_AUDIENCE, OPERATOR, caller, document, message},
};

/// The life of tokens, which are asked for anew after half of it, as a kubelet does.
const TOKEN_LIFE: Duration = Duration::from_hours(1);

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

/// What somebody is told of how the request fares.
#[derive(Debug)]
pub(crate) struct Explained {
    pub(crate) verdict: String,
    pub(crate) reason: String,
}

/// Whose a token is and what for: cluster, namespace, name and audience.
type Purpose = (usize, String, String, &'static str);

struct Held {
    since: Instant,
    token: String,
}

pub(crate) struct World {
    azure: InProcess,
    clock: Arc<VirtualClock>,
    /// The tokens of ServiceAccounts.
    tokens: RefCell<BTreeMap<Purpose, Held>>,
    folder: TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(VirtualClock::starting_now());
        let azure = InProcess::new(azure(), Arc::clone(&clock).of_azure()).unwrap();
        Self {
            azure,
            clock,
            tokens: RefCell::default(),
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

    /// The caller asks.
    pub(crate) async fn ask(&self, broker: &Router, ask: &Ask) -> Outcome {
        let caller = (ask.cluster, caller(ask));
        let answer = self
            .post(broker, "/v1/access-token", caller, &self.message(ask))
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

    /// How the request fares: a workload asks for itself; of a syncer's request an operator asks, of another cluster or of
    /// the same one.
    pub(crate) async fn explain(&self, broker: &Router, ask: &Ask) -> Explained {
        let mut message = json!({"request": self.message(ask)});
        let caller = match ask.caller {
            Who::Syncer => {
                message["cluster"] = json!(name_of(ask.cluster));
                (0, OPERATOR)
            }
            Who::Workload(..) => (ask.cluster, caller(ask)),
        };
        let answer = self.post(broker, "/v1/explain", caller, &message).await;
        let text = |member: &str| answer[member].as_str().map(str::to_owned);
        Explained {
            // Who is nobody to the broker is told that, and no more.
            verdict: text("verdict").unwrap_or_else(|| "VERDICT_DENIED".to_owned()),
            reason: text("reason").unwrap_or_default(),
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
        let bearer = self.token(cluster, account, CALLER_AUDIENCE);
        let request = Request::post(path)
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {bearer}"))
            .body(Body::from(message.to_string()))
            .unwrap();
        let response = broker.clone().oneshot(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    /// A token of a ServiceAccount that is good now.
    fn token(&self, cluster: usize, (namespace, name): (&str, &str), audience: &'static str) -> String {
        let key = (cluster, namespace.to_owned(), name.to_owned(), audience);
        let mut tokens = self.tokens.borrow_mut();
        if let Some(held) = tokens.get(&key)
            && held.since.elapsed() < TOKEN_LIFE / 2
        {
            return held.token.clone();
        }
        let mut wanted = ServiceAccountToken::new(issuer(cluster), namespace, name, audience);
        wanted.kid = Some(name_of(cluster));
        wanted.ttl = i64::try_from(TOKEN_LIFE.as_secs()).unwrap();
        let token = self.azure.service_account_token(&wanted).unwrap();
        let held = Held {
            since: Instant::now(),
            token: token.clone(),
        };
        tokens.insert(key, held);
        token
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
        let subject_token = match &ask.identity {
            Asked::Owned { .. } => String::new(),
            Asked::Federated {
                subject: (cluster, namespace, name),
                ..
            } => self.token(*cluster, (namespace, name), SUBJECT_AUDIENCE),
        };
        message(ask, &subject_token)
    }

    fn written(&self, rules: &Rules) -> PathBuf {
        let path = self.folder.path().join("config.yaml");
        let document = document(rules, |cluster| self.jwks(cluster));
        std::fs::write(&path, document.to_string()).unwrap();
        path
    }
}
