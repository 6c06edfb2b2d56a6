//! What tests of the API act on: the real router over a real service, callers with real keys, and an Azure that answers
//! over sockets and counts.

mod authority;
mod fake_azure;
pub(crate) mod wire;

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, UNIX_EPOCH},
};

use axum::{Router, body::Body};
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use prometheus_client::registry::Registry;
use runtime::{Clock, clock::ManualClock};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::{
    audit::{
        Audit,
        test_log::{self, TestLog},
    },
    authn::{Authenticator, Cluster, KeyStore, test_keys::Signer},
    azure::Azure,
    config::{
        AuditConfig, Clouds, ClusterConfig, Grant, GrantMode, GrantModes, GrantedIdentity, Identity,
        IdentitySource, KeySource, Limits, Pattern, Policy, Workloads,
    },
    credentials::Credentials,
    live::{Live, Snapshot},
    metrics::Metrics,
    serve,
    service::Service,
};
pub(crate) use authority::{ALL_VERSIONS, Authority, HOST, Issued};
pub(crate) use fake_azure::FakeAzure;

pub(crate) const NOW: u64 = 1_795_000_000;
pub(crate) const SYNCER: &str = "system:serviceaccount:acrpull-system:acrpull-syncer";
pub(crate) const OPERATOR: &str = "system:serviceaccount:platform:operator";
pub(crate) const NOBODY: &str = "system:serviceaccount:web:app";
pub(crate) const WORKLOAD: &str = "system:serviceaccount:self-service:app";
pub(crate) const CLIENT: &str = "33333333-3333-3333-3333-000000000001";
pub(crate) const REGISTRY: &str = "prod.azurecr.io";
const TENANT: &str = "22222222-2222-2222-2222-222222222222";
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub(crate) const CALLER_AUDIENCE: &str = "acrpull-broker";
pub(crate) const SUBJECT_AUDIENCE: &str = "api://AzureCRTokenExchange";

/// Keys of the two clusters: made once, because that takes a while.
static EAST: LazyLock<Signer> = LazyLock::new(|| Signer::new("east-1"));
static WEST: LazyLock<Signer> = LazyLock::new(|| Signer::new("west-1"));

/// Two clusters, `east` and `west`, of one issuer. East has the syncer, the operator, workloads in namespace
/// `self-service`, and a grant for that namespace and `web`.
pub(crate) struct Scene {
    pub(crate) router: Router,
    pub(crate) service: Service,
    pub(crate) azure: FakeAzure,
    pub(crate) live: Live,
    registry: Registry,
    audit: Audit,
    log: TestLog,
}

/// What the configuration has of east.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) has_east: bool,
    pub(crate) has_syncer: bool,
    pub(crate) has_grant: bool,
    pub(crate) east_certificates: &'static [&'static str],
    pub(crate) grant_modes: GrantModes,
}

/// An answer, whole.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: http::HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Shape {
    pub(crate) const WHOLE: Self = Self {
        has_east: true,
        has_syncer: true,
        has_grant: true,
        east_certificates: &[],
        grant_modes: GrantModes {
            broker_owned: GrantMode::Enforce,
            federated: None,
        },
    };
}

impl Scene {
    pub(crate) async fn new() -> Self {
        Self::with(Live::new(snapshot(Shape::WHOLE)), AuditConfig::default()).await
    }

    /// The same, with a configuration of the test's own.
    pub(crate) async fn over(live: Live) -> Self {
        Self::with(live, AuditConfig::default()).await
    }

    /// One whose audit log is as `config` says, but in memory.
    pub(crate) async fn with_audit(config: AuditConfig) -> Self {
        Self::with(Live::new(snapshot(Shape::WHOLE)), config).await
    }

    async fn with(live: Live, config: AuditConfig) -> Self {
        runtime::tls::install_crypto_provider();
        let clock = clock();
        let azure = FakeAzure::start(REGISTRY, NOW).await;
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let upstream = Azure::new(
            &azure.egress(),
            &live.current().clouds,
            Arc::clone(&clock),
            metrics.upstream(),
        );
        let credentials = Credentials::new(Arc::new(upstream.unwrap()), clock, &metrics);
        let (audit, log) = test_log::audit(config, &mut registry);
        let service = Service::new(live.clone(), credentials, metrics, audit.clone());
        let (router, _health) = serve::router(service.clone()).await;
        Self {
            router,
            service,
            azure,
            live,
            registry,
            audit,
            log,
        }
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response: Response<Body> = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let collected = body.collect().await.unwrap();
        let mut headers = parts.headers;
        headers.extend(collected.trailers().cloned().unwrap_or_default());
        Answer {
            status: parts.status,
            headers,
            body: collected.to_bytes().to_vec(),
        }
    }

    /// Posts JSON as `subject`.
    pub(crate) async fn post(&self, subject: &str, path: &str, message: &Value) -> Answer {
        let request = http_request(Method::POST, path, Some(subject), message.to_string());
        self.send(request).await
    }

    pub(crate) async fn get(&self, subject: &str, path: &str) -> Answer {
        self.send(http_request(Method::GET, path, Some(subject), Body::empty()))
            .await
    }

    /// Every line of the audit log so far.
    pub(crate) async fn lines(&self) -> Vec<Value> {
        self.audit.written().await;
        self.log.lines()
    }

    /// The records of calls among them.
    pub(crate) async fn records(&self) -> Vec<Value> {
        let mut lines = self.lines().await;
        lines.retain(|line| line["event"] == "decision");
        lines
    }

    /// Sums up strangers, as the process does from time to time.
    pub(crate) async fn sum_up(&self) {
        self.audit.sum_up_now().await;
    }

    /// The audit log, to change it under way.
    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }

    /// Where the audit log is written.
    pub(crate) fn log(&self) -> &TestLog {
        &self.log
    }

    /// All metrics, as they are scraped.
    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// The configuration, with what `shape` says of east.
pub(crate) fn snapshot(shape: Shape) -> Snapshot {
    snapshot_with(shape, Limits::default())
}

/// The same, where each cluster may ask only so often.
pub(crate) fn snapshot_with(shape: Shape, limits: Limits) -> Snapshot {
    let syncers: &[&str] = if shape.has_syncer { &[SYNCER] } else { &[] };
    let mut clusters = vec![cluster("west", &WEST, |west| {
        west.syncers = vec![SYNCER.into()];
        west.limits = limits;
    })];
    if shape.has_east {
        let east = cluster("east", &EAST, |east| {
            east.syncers = syncers.iter().map(|sub| (*sub).to_owned()).collect();
            east.operators = vec![OPERATOR.into()];
            east.client_certificates = shape
                .east_certificates
                .iter()
                .map(|name| name.parse().unwrap())
                .collect();
            east.workloads = Workloads::of(vec![Pattern::new("self-*")]);
            east.grant_modes = shape.grant_modes;
            east.limits = limits;
        });
        clusters.insert(0, east);
    }
    let clouds = Clouds::new(Vec::new());
    let mut policy = policy(&clouds);
    if !shape.has_grant {
        policy.grants.clear();
    }
    Snapshot {
        authenticator: Arc::new(Authenticator::new(clusters, clock())),
        clouds,
        policy,
    }
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW)))
}

/// A token of `subject` in cluster east, to call with.
pub(crate) fn token(subject: &str) -> String {
    EAST.sign(&claims(subject, CALLER_AUDIENCE))
}

/// A token of the syncer of cluster west.
pub(crate) fn token_of_west() -> String {
    WEST.sign(&claims(SYNCER, CALLER_AUDIENCE))
}

/// A ServiceAccount's token to be exchanged, of east or of west.
pub(crate) fn subject_token(cluster: &str, subject: &str) -> String {
    signer(cluster).sign(&claims(subject, SUBJECT_AUDIENCE))
}

/// The key of a cluster.
pub(crate) fn signer(cluster: &str) -> &'static Signer {
    if cluster == "east" { &EAST } else { &WEST }
}

/// A request with a body of JSON, as `subject` or without a token.
pub(crate) fn http_request(
    method: Method,
    path: &str,
    subject: Option<&str>,
    body: impl Into<Body>,
) -> Request<Body> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json");
    if let Some(subject) = subject {
        request = request.header(header::AUTHORIZATION, format!("Bearer {}", token(subject)));
    }
    request.body(body.into()).unwrap()
}

/// A request that the grant of east allows.
pub(crate) fn granted_request() -> Value {
    json!({
        "binding": {"namespace": "web", "name": "web"},
        "serviceAccounts": ["app"],
        "registry": REGISTRY,
        "scopes": ["repository:team/web:pull"],
        "brokerOwned": {"clientId": CLIENT},
    })
}

/// A request for a federated identity of namespace `web`.
pub(crate) fn federated_request(subject_token: &str) -> Value {
    json!({
        "binding": {"namespace": "web", "name": "web"},
        "serviceAccounts": ["app"],
        "registry": REGISTRY,
        "scopes": ["repository:team/web:pull"],
        "federated": {"tenantId": TENANT, "clientId": CLIENT, "subjectToken": subject_token},
    })
}

/// What a good token says.
pub(crate) fn claims(subject: &str, audience: &str) -> Value {
    json!({"iss": ISSUER, "sub": subject, "aud": [audience], "iat": NOW, "nbf": NOW, "exp": NOW + 86400})
}

/// A cluster that nobody may call for, and what `change` makes of it.
fn cluster(name: &str, signer: &Signer, change: impl FnOnce(&mut ClusterConfig)) -> Arc<Cluster> {
    let mut config = ClusterConfig {
        name: name.into(),
        issuer: ISSUER.into(),
        keys: KeySource::Fixed(signer.jwks()),
        caller_audiences: vec![CALLER_AUDIENCE.into()],
        subject_audiences: vec![SUBJECT_AUDIENCE.into()],
        max_token_lifetime: Duration::from_secs(86_400),
        syncers: Vec::new(),
        operators: Vec::new(),
        client_certificates: Vec::new(),
        workloads: Workloads::default(),
        default_tenant: None,
        grant_modes: GrantModes::default(),
        tenant_ceiling: Vec::new(),
        registry_ceiling: Vec::new(),
        limits: Limits::default(),
    };
    change(&mut config);
    Arc::new(Cluster {
        config,
        keys: KeyStore::with(signer.jwks()),
    })
}

fn policy(clouds: &Clouds) -> Policy {
    let identity = Identity {
        name: "team-web".into(),
        cloud: Arc::clone(clouds.named("PublicCloud").unwrap()),
        tenant: TENANT.parse().unwrap(),
        client_id: Some(CLIENT.parse().unwrap()),
        resource_id: None,
        source: IdentitySource::Imds,
        application: None,
    };
    let grant = Grant {
        name: "web-reads-team".into(),
        clusters: vec!["east".into()],
        namespaces: vec![Pattern::new("web"), Pattern::new("self-service")],
        service_accounts: vec![Pattern::new("app")],
        identity: GrantedIdentity::BrokerOwned("team-web".into()),
        registries: vec![REGISTRY.parse().unwrap()],
        repositories: vec![Pattern::new("team/*")],
        actions: vec!["pull".into()],
        registry_wide: true,
    };
    Policy {
        identities: vec![Arc::new(identity)],
        grants: vec![grant],
    }
}
