//! Azure as a script in virtual time: the real code above the transport, and a log of every request that leaves it.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response};
use prometheus_client::registry::Registry;
use runtime::Clock;
use tokio::time::{Instant, sleep};
use zeroize::Zeroizing;

use crate::{
    azure::{
        Attempt, Azure, Issued, Transport,
        transport::{Answer, Endpoint, TransportError},
    },
    error::CredentialError,
    metrics::Metrics,
    tenant::Tenant,
};

/// A clock that goes with tokio's.
#[derive(Debug)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_800_000_000) + self.0.elapsed()
    }

    fn monotonic(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A request as it left.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    pub(super) at: Instant,
    pub(super) endpoint: Endpoint,
    pub(super) host: String,
    pub(super) uri: String,
    pub(super) form: String,
}

/// What the other side does.
pub(super) enum Reaction {
    Answer {
        after: Duration,
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    Fail(TransportError),
    Hang,
}

type Script = dyn Fn(&Sent) -> Reaction + Send + Sync;

/// Plays the script.
pub(super) struct Scripted {
    script: Box<Script>,
    log: Mutex<Vec<Sent>>,
    in_flight: AtomicUsize,
    most_in_flight: AtomicUsize,
}

/// The real thing over it.
pub(super) struct Rig {
    pub(super) azure: Azure,
    pub(super) transport: Arc<Scripted>,
    pub(super) registry: Registry,
}

struct InFlight<'a>(&'a AtomicUsize);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Transport for Scripted {
    async fn exchange(&self, endpoint: Endpoint, request: Request<Bytes>) -> Result<Answer, TransportError> {
        let sent = Sent {
            at: Instant::now(),
            endpoint,
            host: request.uri().host().unwrap_or_default().to_owned(),
            uri: request.uri().to_string(),
            form: String::from_utf8_lossy(request.body()).into_owned(),
        };
        let in_flight = self.in_flight.fetch_add(1, Ordering::SeqCst) + 1;
        let _in_flight = InFlight(&self.in_flight);
        self.most_in_flight.fetch_max(in_flight, Ordering::SeqCst);
        self.log.lock().unwrap().push(sent.clone());
        match (self.script)(&sent) {
            Reaction::Hang => std::future::pending().await,
            Reaction::Fail(error) => Err(error),
            Reaction::Answer {
                after,
                status,
                headers,
                body,
            } => {
                sleep(after).await;
                let mut answer = Response::new(Zeroizing::new(body.into_bytes()));
                *answer.status_mut() = status.try_into().unwrap();
                for (name, value) in headers {
                    let value = HeaderValue::try_from(value).unwrap();
                    answer.headers_mut().insert(HeaderName::from_static(name), value);
                }
                Ok(answer)
            }
        }
    }
}

impl Rig {
    pub(super) fn new(script: impl Fn(&Sent) -> Reaction + Send + Sync + 'static) -> Self {
        let transport = Arc::new(Scripted {
            script: Box::new(script),
            log: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            most_in_flight: AtomicUsize::new(0),
        });
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry).upstream();
        let azure = Azure::over(
            Arc::clone(&transport) as Arc<dyn Transport>,
            "http://169.254.169.254".parse().unwrap(),
            Arc::new(TokioClock(Instant::now())),
            metrics,
        );
        Self {
            azure,
            transport,
            registry,
        }
    }

    /// Asks `host` for a refresh token.
    pub(super) async fn ask(&self, host: &str, attempt: &Attempt) -> Result<Issued, CredentialError> {
        let entra_token = "entra-token".to_owned().into();
        self.azure
            .refresh_token(&host.parse().unwrap(), &entra_token, attempt)
            .await
    }

    /// The metrics page.
    pub(super) fn metrics(&self) -> String {
        let mut page = String::new();
        prometheus_client::encoding::text::encode(&mut page, &self.registry).unwrap();
        page
    }
}

impl Scripted {
    pub(super) fn log(&self) -> Vec<Sent> {
        self.log.lock().unwrap().clone()
    }

    pub(super) fn most_in_flight(&self) -> usize {
        self.most_in_flight.load(Ordering::SeqCst)
    }

    /// When requests left for each host.
    pub(super) fn by_host(&self) -> BTreeMap<String, Vec<Instant>> {
        let mut by_host = BTreeMap::<_, Vec<_>>::new();
        for sent in self.log() {
            by_host.entry(sent.host).or_default().push(sent.at);
        }
        by_host
    }
}

/// An answer with a token for `host`, of an hour and a quarter.
pub(super) fn token(after: Duration, host: &str) -> Reaction {
    Reaction::Answer {
        after,
        status: 200,
        headers: Vec::new(),
        body: refresh_token_body(host),
    }
}

pub(super) fn refresh_token_body(host: &str) -> String {
    let claims = format!(r#"{{"exp":1800004500,"aud":"{host}"}}"#);
    let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
    format!(r#"{{"refresh_token":"{token}"}}"#)
}

pub(super) fn status(status: u16, headers: &[(&'static str, &str)]) -> Reaction {
    Reaction::Answer {
        after: Duration::from_millis(50),
        status,
        headers: headers
            .iter()
            .map(|(name, value)| (*name, (*value).to_owned()))
            .collect(),
        body: String::new(),
    }
}

pub(super) fn attempt(namespace: &str) -> Attempt {
    attempt_of("c", namespace)
}

pub(super) fn attempt_of(cluster: &str, namespace: &str) -> Attempt {
    Attempt {
        tenant: Tenant {
            cluster: cluster.into(),
            namespace: namespace.into(),
        },
        held_until: None,
        is_retry: false,
    }
}

/// The most that lie in any window of this length, its ends included. The times are in order.
pub(super) fn most_within(times: &[Instant], window: Duration) -> usize {
    let mut first = times.iter().peekable();
    let mut inside = 0_usize;
    let mut most = 0;
    for at in times {
        inside += 1;
        while first.next_if(|start| **start + window < *at).is_some() {
            inside -= 1;
        }
        most = most.max(inside);
    }
    most
}
