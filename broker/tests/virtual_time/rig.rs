//! One broker engine, or several, in front of one Azure, on one clock.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use azure_simulator::{Calls, Fault, InProcess, Operation, Service, ServiceAccountToken, State, TimeSource};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use broker::{
    authn::{Caller, Cluster, KeySet, KeyStore, Subject},
    authz::{self, Permit},
    azure::{
        Azure, Transport,
        transport::{Answer, Endpoint, Stage, TransportError},
    },
    config::{
        Clouds, ClusterConfig, DEFAULT_TOKEN_LIFETIME, GrantModes, Identity, KeySource, Limits, Policy,
        Workloads,
    },
    credentials::{Credential, Credentials},
    error::CredentialError,
    expiry::FLOOR,
    metrics::Metrics,
    request::{CloudReference, DockerConfigRequest, IdentitySelector, RequestedIdentity, Wish},
};
use bytes::Bytes;
use http::Request;
use proto::types::ScopeSet;
use runtime::Clock;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{
    policy::{granted, managed_identities},
    scene::{AUDIENCE, Ask, ISSUER, OTHER_AUDIENCE},
};

/// What a production transport waits for an answer at most.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// 2033-05-18: far from the machine's time, so that a look at that would be noticed.
const EPOCH: Duration = Duration::from_secs(2_000_000_000);

/// Time as Tokio's paused clock counts it; the time of day can be set on top of that.
#[derive(Debug)]
pub(crate) struct VirtualClock {
    start: Instant,
    set_by_s: AtomicI64,
}

impl VirtualClock {
    pub(crate) fn starting_now() -> Self {
        Self {
            start: Instant::now(),
            set_by_s: AtomicI64::new(0),
        }
    }

    /// The same time, for the simulator.
    pub(crate) fn of_azure(self: Arc<Self>) -> TimeSource {
        Arc::new(move || jiff::Timestamp::try_from(UNIX_EPOCH + EPOCH + self.elapsed()).unwrap())
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Somebody sets the time of day of the broker's machine.
    pub(crate) fn set_by(&self, seconds: i64) {
        self.set_by_s.store(seconds, Ordering::Relaxed);
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> SystemTime {
        let now = UNIX_EPOCH + EPOCH + self.elapsed();
        let by = self.set_by_s.load(Ordering::Relaxed);
        let step = Duration::from_secs(by.unsigned_abs());
        if by < 0 { now - step } else { now + step }
    }

    fn monotonic(&self) -> Duration {
        self.elapsed()
    }
}

/// The simulator where the network would be. Remembers what registries are shown.
struct InProcessTransport {
    azure: InProcess,
    shown: Arc<Mutex<Vec<Shown>>>,
}

/// What a registry was shown to get its own token.
#[derive(Debug, Clone)]
pub(crate) struct Shown {
    pub(crate) registry: String,
    pub(crate) entra_token: String,
}

#[async_trait::async_trait]
impl Transport for InProcessTransport {
    async fn exchange(&self, endpoint: Endpoint, request: Request<Bytes>) -> Result<Answer, TransportError> {
        let service = match endpoint {
            Endpoint::Entra => Service::Entra,
            Endpoint::Imds => Service::Imds,
            Endpoint::Exchange | Endpoint::Token => Service::Acr,
        };
        if endpoint == Endpoint::Exchange {
            let mut form = url::form_urlencoded::parse(request.body());
            let token = form.find(|(name, _)| name == "access_token");
            let shown = Shown {
                registry: request.uri().host().unwrap_or_default().to_owned(),
                entra_token: token.map(|(_, token)| token.into_owned()).unwrap_or_default(),
            };
            self.shown.lock().unwrap().push(shown);
        }
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, self.azure.answer(service, request))
            .await
            .map_err(|_elapsed| TransportError::Timeout(Stage::Headers))?
            .map_err(|_unanswered| TransportError::Broken)?;
        Ok(answer.map(|body| Zeroizing::new(body.to_vec())))
    }
}

/// Everything that a test needs.
pub(crate) struct Rig {
    pub(crate) azure: InProcess,
    pub(crate) clock: Arc<VirtualClock>,
    /// Replicas of the broker; most tests have one.
    pub(crate) replicas: Vec<Credentials>,
    caller: Caller,
    clouds: Clouds,
    policy: Policy,
    assertions: Mutex<BTreeMap<String, String>>,
    shown: Arc<Mutex<Vec<Shown>>>,
    maintained_at_s: AtomicU64,
}

impl Rig {
    pub(crate) fn new(state: State) -> Self {
        Self::with_replicas(state, 1)
    }

    pub(crate) fn with_replicas(state: State, replicas: usize) -> Self {
        let identities = managed_identities(&state, &Clouds::new(Vec::new()));
        Self::owning(state, identities, replicas)
    }

    /// A broker that owns these identities, each of which is granted to everybody.
    pub(crate) fn owning(state: State, identities: Vec<Identity>, replicas: usize) -> Self {
        let clock = Arc::new(VirtualClock::starting_now());
        let clouds = Clouds::new(Vec::new());
        let policy = granted(&state, identities);
        let azure = InProcess::new(state, Arc::clone(&clock).of_azure()).unwrap();
        let shown = Arc::<Mutex<Vec<Shown>>>::default();
        let replicas = (0..replicas).map(|_| replica(&azure, &shown, &clock)).collect();
        let jwks = azure.jwks_json();
        Self {
            azure,
            clock,
            replicas,
            caller: caller(&jwks),
            clouds,
            policy,
            assertions: Mutex::default(),
            shown,
            maintained_at_s: AtomicU64::new(0),
        }
    }

    /// Asks the one replica.
    pub(crate) async fn ask(&self, ask: &Ask, wish: &Wish) -> Result<Credential, CredentialError> {
        self.ask_replica(0, ask, wish).await
    }

    pub(crate) async fn ask_replica(
        &self,
        replica: usize,
        ask: &Ask,
        wish: &Wish,
    ) -> Result<Credential, CredentialError> {
        let answer = self.replicas[replica].credential(&self.permit(ask), wish).await;
        if let Ok(credential) = &answer {
            self.check(credential);
        }
        answer
    }

    /// What holds for every answer (guarantee S1), whatever a test is about: a minute left at least; a third of the life,
    /// or brand-new, unless flagged; and a time to ask again that is in the future.
    fn check(&self, credential: &Credential) {
        let now = self.now();
        assert!(
            credential.refresh_at > now,
            "the time to ask again is in the future"
        );
        let left = credential.expires_at.duration_since(now).unwrap();
        assert!(left >= FLOOR, "{left:?} left");
        let last_call = credential.expires_at - FLOOR / 2;
        assert!(
            credential.refresh_at <= last_call,
            "asked again only when it is too late"
        );
        if let (Some(payload), false) = (&credential.payload, credential.degraded) {
            let claims = claims(payload.token().expose());
            let number = |name: &str| claims[name].as_u64().unwrap();
            // Issued this long before it was received: the simulator's default.
            let life = Duration::from_secs(number("exp") - number("iat") - 900);
            let age = life.saturating_sub(left);
            let is_young = age < Duration::from_secs(60);
            assert!(
                is_young || left.as_secs_f64() >= 0.33 * life.as_secs_f64(),
                "{left:?} of {life:?} left"
            );
        }
    }

    /// Lets time pass; maintenance runs every ten seconds, as it does in the process.
    pub(crate) async fn pass(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        let now_s = self.clock.elapsed().as_secs();
        if now_s >= self.maintained_at_s.load(Ordering::Relaxed) + 10 {
            self.maintained_at_s.store(now_s, Ordering::Relaxed);
            for replica in &self.replicas {
                replica.maintain();
            }
        }
    }

    pub(crate) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    pub(crate) fn add_fault(&self, fault: Fault) {
        self.azure.add_fault(fault).unwrap();
    }

    /// Everything that was asked of Azure.
    pub(crate) fn calls(&self) -> Calls {
        self.azure.calls()
    }

    /// Everything that registries were shown to get tokens of theirs.
    pub(crate) fn shown(&self) -> Vec<Shown> {
        self.shown.lock().unwrap().clone()
    }

    pub(crate) fn count(&self, service: Service, operation: Operation) -> usize {
        self.calls().of(service, operation).count()
    }

    pub(crate) fn permit(&self, ask: &Ask) -> Permit {
        let identity = if ask.is_broker_owned {
            RequestedIdentity::BrokerOwned(IdentitySelector::ClientId(ask.client.parse().unwrap()))
        } else {
            RequestedIdentity::Federated {
                tenant: Some(ask.tenant.parse().unwrap()),
                client: ask.client.parse().unwrap(),
                subject_token: self.assertion(ask).into(),
            }
        };
        let subject = Subject {
            subject: ask.subject().into(),
            namespace: ask.namespace.as_str().into(),
            name: "app".into(),
            audiences: vec![ask.audience.clone()].into(),
        };
        let request = DockerConfigRequest {
            namespace: ask.namespace.clone(),
            binding: "binding".to_owned(),
            binding_uid: String::new(),
            service_accounts: vec!["app".to_owned()],
            registry: ask.registry.parse().unwrap(),
            scopes: ScopeSet::from_field(&ask.scope).unwrap(),
            cloud: CloudReference::default(),
            identity,
            wish: Wish::default(),
        };
        let subject = (!ask.is_broker_owned).then_some(&subject);
        authz::permit(&self.caller, subject, &request, &self.clouds, &self.policy)
            .ok()
            .unwrap()
    }

    /// A ServiceAccount's token that lives for days, so that a test mints one per subject.
    fn assertion(&self, ask: &Ask) -> String {
        let mut assertions = self.assertions.lock().unwrap();
        let mint = || {
            let mut wanted = ServiceAccountToken::new(ISSUER, &ask.namespace, "app", &ask.audience);
            wanted.ttl = 7 * 24 * 3600;
            self.azure.service_account_token(&wanted).unwrap()
        };
        assertions
            .entry(format!("{} {}", ask.namespace, ask.audience))
            .or_insert_with(mint)
            .clone()
    }
}

/// The claims of a token, unverified.
pub(crate) fn claims(token: &str) -> serde_json::Value {
    let claims = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap()
}

fn replica(azure: &InProcess, shown: &Arc<Mutex<Vec<Shown>>>, clock: &Arc<VirtualClock>) -> Credentials {
    let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
    credentials(azure, shown, clock, &metrics)
}

/// The engine in front of the simulator.
pub(crate) fn credentials(
    azure: &InProcess,
    shown: &Arc<Mutex<Vec<Shown>>>,
    clock: &Arc<VirtualClock>,
    metrics: &Metrics,
) -> Credentials {
    let clock: Arc<dyn Clock> = Arc::<VirtualClock>::clone(clock);
    let transport = Arc::new(InProcessTransport {
        azure: azure.clone(),
        shown: Arc::clone(shown),
    });
    let imds = "http://169.254.169.254".parse().unwrap();
    let azure = Azure::over(transport, imds, Arc::clone(&clock), metrics.upstream());
    Credentials::new(Arc::new(azure), clock, metrics)
}

fn caller(jwks: &str) -> Caller {
    let config = ClusterConfig {
        name: "cluster".into(),
        issuer: ISSUER.to_owned(),
        keys: KeySource::Fixed(KeySet::parse(jwks.as_bytes()).unwrap()),
        caller_audiences: vec!["acrpull-broker".to_owned()],
        subject_audiences: vec![AUDIENCE.to_owned(), OTHER_AUDIENCE.to_owned()],
        max_token_lifetime: DEFAULT_TOKEN_LIFETIME,
        syncers: vec!["system:serviceaccount:acrpull-system:acrpull-syncer".to_owned()],
        operators: Vec::new(),
        client_certificates: Vec::new(),
        workloads: Workloads::default(),
        default_tenant: None,
        grant_modes: GrantModes::default(),
        tenant_ceiling: Vec::new(),
        registry_ceiling: Vec::new(),
        limits: Limits::default(),
    };
    Caller {
        cluster: Arc::new(Cluster {
            config,
            keys: KeyStore::default(),
        }),
        subject: "system:serviceaccount:acrpull-system:acrpull-syncer".into(),
        evidence: Arc::default(),
    }
}
