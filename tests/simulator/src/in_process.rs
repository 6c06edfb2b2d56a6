//! The simulated Azure without sockets, TLS or the machine's clock: a request goes in as a value, the answer comes
//! out as one, and time is what a test says. It is the same Azure that the listeners serve, with its limits, faults,
//! counters and log; a [`crate::Handle`] adds the listeners to it.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};

use crate::{
    Calls, ClockChange, Counters, Fault, FaultError, IssuedSecret, LogEntry, Service, ServiceAccountToken,
    State, StateError, TimeSource, TokenError, Unanswered,
    serve::{BodyError, Broken, Ending, Origin, Turn, serve},
    world::World,
};

/// Who asks when there is no socket that would tell.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// No connection has this number.
const NO_CONNECTION: u64 = 0;

/// One simulated Azure, as a function of requests. Copies are the same Azure.
#[derive(Clone)]
pub struct InProcess(Arc<World>);

impl fmt::Debug for InProcess {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("InProcess").finish_non_exhaustive()
    }
}

impl InProcess {
    /// Makes its keys, which takes a fraction of a second.
    ///
    /// # Errors
    /// When the state contradicts itself.
    pub fn new(state: State, clock: TimeSource) -> anyhow::Result<Self> {
        Self::seeded(state, 0, clock)
    }

    /// The same, with another start for chance.
    ///
    /// # Errors
    /// When the state contradicts itself.
    pub fn seeded(state: State, seed: u64, clock: TimeSource) -> anyhow::Result<Self> {
        World::new(state, seed, clock).map(|world| Self::of(Arc::new(world)))
    }

    pub(crate) fn of(world: Arc<World>) -> Self {
        Self(world)
    }

    pub(crate) fn world(&self) -> &World {
        &self.0
    }

    /// Answers a request, whose URI names the host or else its `Host` header. Latency is slept with Tokio's timer, so
    /// `tokio::time::pause` covers it. Every request is taken as the first and only one of a connection: faults at
    /// `accept` and `tls` hit it like any other. [`Service::Proxy`] opens tunnels and answers nothing.
    ///
    /// # Errors
    /// What became of the connection instead. An answer that broke off half-way is no answer either.
    ///
    /// # Cancel safety
    /// A fault that hangs never completes; dropping the future is what the client's deadline does, and it is counted
    /// as given up by the client.
    pub async fn answer(
        &self,
        service: Service,
        request: Request<Bytes>,
    ) -> Result<Response<Bytes>, Unanswered> {
        let origin = Origin {
            service,
            connection: NO_CONNECTION,
            peer: PEER,
        };
        let request = request.map(|body| Full::new(body).map_err(|never| match never {}).boxed_unsync());
        let (head, body) = match serve(Arc::clone(&self.0), origin, Turn::Only, request).await {
            Ok(response) => response.into_parts(),
            Err(Broken { ending, .. }) => match ending {
                Ending::Now(unanswered) => return Err(unanswered),
                Ending::Silence(_watched) => std::future::pending().await,
            },
        };
        let body = body.collect().await.map_err(|error| match error {
            BodyError::Backend(_) | BodyError::Cut => Unanswered::BrokenOff,
            BodyError::Reset => Unanswered::Reset,
        })?;
        Ok(Response::from_parts(head, body.to_bytes()))
    }

    /// The JWKS document that a real registry behind this one must trust.
    pub fn jwks_json(&self) -> String {
        serde_json::json!(self.0.keys.acr_jwks()).to_string()
    }

    /// The JWKS document of a simulated issuer.
    ///
    /// # Errors
    /// When the simulator does not hold the issuer's keys.
    pub fn issuer_jwks_json(&self, issuer: &str) -> Result<String, TokenError> {
        self.0.issuer_jwks(issuer)
    }

    /// A ServiceAccount token of a simulated issuer.
    ///
    /// # Errors
    /// When the simulator does not hold the issuer's keys.
    pub fn service_account_token(&self, wanted: &ServiceAccountToken) -> Result<String, TokenError> {
        self.0.service_account_token(wanted)
    }

    /// The state as it is now.
    pub fn state(&self) -> Arc<State> {
        self.0.state()
    }

    /// Changes the state, or leaves it as it was if the result contradicts itself.
    ///
    /// # Errors
    /// The first contradiction.
    pub fn update(&self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        self.0.update(change)
    }

    /// Moves or sets simulated time, on top of the source's.
    ///
    /// # Errors
    /// None in practice: time contradicts nothing.
    pub fn change_clock(&self, change: ClockChange) -> Result<(), StateError> {
        self.0.update(|state| change.apply(&mut state.clock))
    }

    /// Adds a fault at the end of the list and returns its name.
    ///
    /// # Errors
    /// When it could never hit, or its name is taken.
    pub fn add_fault(&self, fault: Fault) -> Result<String, FaultError> {
        self.0.add_fault(fault)
    }

    /// Removes every fault.
    pub fn clear_faults(&self) {
        self.0.faults.clear();
    }

    /// Everything as it was at the start.
    pub fn reset(&self) {
        self.0.reset();
    }

    /// Log entries after a sequence number.
    pub fn log(&self, since: u64) -> Vec<LogEntry> {
        self.0.observation.log_since(since)
    }

    /// The whole log, to be asked.
    pub fn calls(&self) -> Calls {
        Calls::new(self.log(0))
    }

    /// The counters.
    pub fn counters(&self) -> Counters {
        self.0.observation.counters()
    }

    /// Every secret that was handed out.
    pub fn issued(&self) -> Vec<IssuedSecret> {
        self.0.observation.secrets()
    }
}
