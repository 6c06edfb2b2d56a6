//! The metadata service, Entra ID and one registry, just enough to issue tokens, or to refuse them for want of a role.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use jsonwebtoken::{EncodingKey, Header};
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, KeyPair};
use runtime::{Shutdown, listen, tasks::spawn_detached};
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};

use crate::{
    config::{EgressConfig, HostOverride, Pattern},
    metrics::ConnectionMetrics,
    serve::{self, Certificate, ConnectionLimits, TlsFiles},
};

/// Life of an access token.
pub(crate) const ACCESS_TOKEN_SECONDS: u64 = 4500;
const REFRESH_TOKEN_SECONDS: u64 = 10_800;
/// The authority of the public cloud. It lives where the registry does.
const AUTHORITY: &str = "login.microsoftonline.com";

/// A running one. It ends with the test's runtime.
pub(crate) struct FakeAzure {
    world: Arc<World>,
    registry: SocketAddr,
    imds: SocketAddr,
    ca_pem: String,
    host: String,
}

struct World {
    now: u64,
    calls: AtomicUsize,
    has_role: AtomicBool,
    is_held: watch::Sender<bool>,
    is_asked: Notify,
}

impl FakeAzure {
    /// An Azure with a registry called `host` whose clock stands at `now`.
    pub(crate) async fn start(host: &str, now: u64) -> Self {
        let world = Arc::new(World {
            now,
            calls: AtomicUsize::new(0),
            has_role: AtomicBool::new(true),
            is_held: watch::Sender::new(false),
            is_asked: Notify::new(),
        });
        let (ca_pem, registry) = serve_registry(host, Arc::clone(&world));
        let imds = serve_imds(Arc::clone(&world)).await;
        Self {
            world,
            registry,
            imds,
            ca_pem,
            host: host.to_owned(),
        }
    }

    /// The configuration that leads to it.
    pub(crate) fn egress(&self) -> EgressConfig {
        EgressConfig {
            ca_bundle_pem: Some(self.ca_pem.clone().into_bytes()),
            host_overrides: [&self.host, AUTHORITY]
                .map(|host| HostOverride {
                    host: Pattern::new(host),
                    address: self.registry,
                })
                .into(),
            imds_endpoint: format!("http://{}", self.imds).parse().unwrap(),
        }
    }

    /// Calls that it has got.
    pub(crate) fn calls(&self) -> usize {
        self.world.calls.load(Ordering::SeqCst)
    }

    /// Takes the identity's role at the registry away.
    pub(crate) fn take_role(&self) {
        self.world.has_role.store(false, Ordering::SeqCst);
    }

    /// Lets the registry answer no exchange until it is released.
    pub(crate) fn hold(&self) {
        self.world.is_held.send_replace(true);
    }

    /// Waits until the registry has been asked for an exchange.
    pub(crate) async fn is_asked(&self) {
        self.world.is_asked.notified().await;
    }

    /// Lets the registry answer.
    pub(crate) fn release(&self) {
        self.world.is_held.send_replace(false);
    }
}

impl World {
    fn token(&self, seconds: u64, access: &Value) -> String {
        let claims = json!({"exp": self.now + seconds, "access": access});
        jsonwebtoken::encode(
            &Header::default(),
            &claims,
            &EncodingKey::from_secret(b"registry"),
        )
        .unwrap()
    }

    fn count(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }
}

fn serve_registry(host: &str, world: Arc<World>) -> (String, SocketAddr) {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new([host.to_owned(), AUTHORITY.to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    let ca_pem = certificate.pem();
    let folder = tempfile::tempdir().unwrap();
    let tls_files = TlsFiles {
        cert: folder.path().join("tls.crt"),
        key: folder.path().join("tls.key"),
    };
    std::fs::write(&tls_files.cert, &ca_pem).unwrap();
    std::fs::write(&tls_files.key, key.serialize_pem()).unwrap();
    let (certificate, _files) = Certificate::load(&tls_files).unwrap();
    let router = Router::new()
        .route("/oauth2/exchange", post(exchange))
        .route("/oauth2/token", post(access_token))
        .route("/{tenant}/oauth2/v2.0/token", post(federated_token))
        .with_state(world);
    let listener = listen::bind("", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ConnectionLimits {
        max_connections: 100,
        max_age: Duration::from_secs(3600),
    };
    let metrics = ConnectionMetrics::register(&mut Registry::default());
    let server = serve::serve(listener, certificate, router, limits, metrics, Shutdown::manual());
    spawn_detached(server.unwrap());
    (ca_pem, address)
}

async fn serve_imds(world: Arc<World>) -> SocketAddr {
    let router = Router::new()
        .route("/metadata/identity/oauth2/token", get(identity_token))
        .with_state(world);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    spawn_detached(async move { axum::serve(listener, router).await });
    address
}

async fn identity_token(State(world): State<Arc<World>>) -> Json<Value> {
    world.count();
    Json(json!({
        "access_token": "entra-token",
        "client_id": super::CLIENT,
        "expires_in": "86400",
        "expires_on": (world.now + 86400).to_string(),
        "resource": "https://containerregistry.azure.net",
        "token_type": "Bearer",
    }))
}

async fn federated_token(State(world): State<Arc<World>>) -> Json<Value> {
    world.count();
    Json(json!({"access_token": "entra-token", "expires_in": 86400, "token_type": "Bearer"}))
}

async fn exchange(State(world): State<Arc<World>>) -> Response {
    world.count();
    world.is_asked.notify_one();
    let mut held = world.is_held.subscribe();
    held.wait_for(|is_held| !is_held).await.unwrap();
    if !world.has_role.load(Ordering::SeqCst) {
        let errors = json!({"errors": [{"code": "UNAUTHORIZED", "message": "canary-of-azure"}]});
        return (StatusCode::UNAUTHORIZED, Json(errors)).into_response();
    }
    let token = world.token(REFRESH_TOKEN_SECONDS, &Value::Null);
    Json(json!({"refresh_token": token})).into_response()
}

async fn access_token(State(world): State<Arc<World>>, form: Bytes) -> Json<Value> {
    world.count();
    let mut fields = url::form_urlencoded::parse(&form);
    let (_name, scope) = fields.find(|(name, _value)| name == "scope").unwrap();
    let (kind, rest) = scope.split_once(':').unwrap();
    let (name, action) = rest.rsplit_once(':').unwrap();
    let access = json!([{"type": kind, "name": name, "actions": [action]}]);
    Json(json!({"access_token": world.token(ACCESS_TOKEN_SECONDS, &access)}))
}
