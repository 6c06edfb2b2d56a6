//! Everything that the listeners share: the state and all that is remembered beside it.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    Fault, FaultError, IssuerKeys, Service, ServiceAccountToken, State, StateError,
    acr::{Backend, OauthBudgets},
    certificates::Certificates,
    chance::Chance,
    clock::TimeSource,
    faults::FaultBook,
    imds::Memory,
    issuers::IssuerDocuments,
    jwt::KeyError,
    keys::Keys,
    observation::{IssuedSecret, Observation},
};

/// One simulated Azure.
pub(crate) struct World {
    state: Mutex<Arc<State>>,
    initial: Arc<State>,
    time: TimeSource,
    pub(crate) keys: Keys,
    pub(crate) certificates: Certificates,
    pub(crate) faults: FaultBook,
    pub(crate) observation: Observation,
    pub(crate) chance: Chance,
    pub(crate) documents: IssuerDocuments,
    pub(crate) imds: Memory,
    pub(crate) budgets: OauthBudgets,
    pub(crate) backend: Backend,
}

/// A change of the state that cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ChangeError {
    /// It would contradict itself.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is nothing at this place of the state.
    #[error("the state has nothing at {0:?}")]
    Pointer(String),
    /// The value does not fit its place.
    #[error("the state cannot hold this")]
    Value(#[source] serde_json::Error),
}

/// A ServiceAccount token that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// Only simulated issuers have their keys here.
    #[error(
        "the simulator does not hold the keys of issuer {0:?}: add it to the state with keys \"simulated\""
    )]
    Issuer(String),
    /// Its key could not be made.
    #[error("the issuer has no key")]
    Key(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl World {
    pub(crate) fn new(state: State, seed: u64, time: TimeSource) -> anyhow::Result<Self> {
        state.check()?;
        let initial = Arc::new(state);
        Ok(Self {
            state: Mutex::new(Arc::clone(&initial)),
            initial,
            time: Arc::clone(&time),
            keys: Keys::generate()?,
            certificates: Certificates::generate()?,
            faults: FaultBook::default(),
            observation: Observation::new(time),
            chance: Chance::seeded(seed),
            documents: IssuerDocuments::default(),
            imds: Memory::default(),
            budgets: OauthBudgets::default(),
            backend: Backend::new(),
        })
    }

    /// The state as it is now. Later changes do not reach this copy, so a request sees one state throughout.
    pub(crate) fn state(&self) -> Arc<State> {
        Arc::clone(&self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The source's time, which no setting of the state moves: what rates and durations are measured in.
    pub(crate) fn real_now(&self) -> Timestamp {
        (self.time)()
    }

    /// The time by the clock of a service, and by the source.
    pub(crate) fn now(&self, service: Service) -> (Timestamp, Timestamp) {
        let real = self.real_now();
        (self.state().clock.at(service, real), real)
    }

    /// Changes the state, or leaves it as it was if the result contradicts itself.
    pub(crate) fn update(&self, change: impl FnOnce(&mut State)) -> Result<(), StateError> {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = State::clone(&current);
        change(&mut next);
        next.check()?;
        *current = Arc::new(next);
        Ok(())
    }

    /// Puts a value at a JSON pointer.
    pub(crate) fn flip(&self, pointer: &str, value: &Value) -> Result<(), ChangeError> {
        let mut json = serde_json::to_value(&*self.state()).map_err(ChangeError::Value)?;
        let place = json
            .pointer_mut(pointer)
            .ok_or_else(|| ChangeError::Pointer(pointer.to_owned()))?;
        place.clone_from(value);
        let next: State = serde_json::from_value(json).map_err(ChangeError::Value)?;
        Ok(self.update(|state| *state = next)?)
    }

    pub(crate) fn add_fault(&self, fault: Fault) -> Result<String, FaultError> {
        self.faults.add(fault)
    }

    /// Everything as it was at the start. Keys and certificates stay, because clients trust them.
    pub(crate) fn reset(&self) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&self.initial);
        self.faults.clear();
        self.observation.reset();
        self.documents.reset();
        self.imds.reset();
        self.budgets.reset();
    }

    /// Mints a ServiceAccount token of a simulated issuer, as a cluster's TokenRequest would.
    pub(crate) fn service_account_token(&self, wanted: &ServiceAccountToken) -> Result<String, TokenError> {
        let state = self.state();
        let issuer = state.issuers.iter().find(|issuer| issuer.url == wanted.issuer);
        let Some(IssuerKeys::Simulated { kids }) = issuer.map(|issuer| &issuer.keys) else {
            return Err(TokenError::Issuer(wanted.issuer.clone()));
        };
        let kid = wanted
            .kid
            .as_ref()
            .or_else(|| kids.last())
            .ok_or_else(|| TokenError::Issuer(wanted.issuer.clone()))?;
        let key = self
            .keys
            .of_issuer(&wanted.issuer, kid)
            .map_err(|error: KeyError| TokenError::Key(error.into()))?;
        let now = state.clock.of_clusters(self.real_now()).as_second();
        let subject = format!("system:serviceaccount:{}:{}", wanted.ns, wanted.sa);
        let mut claims = json!({
            "iss": wanted.issuer,
            "sub": subject,
            "aud": wanted.audiences,
            "iat": now,
            "nbf": now,
            "exp": now + wanted.ttl,
            "jti": self.chance.draw().token_id,
            "kubernetes.io": {"namespace": wanted.ns, "serviceaccount": {"name": wanted.sa}},
        });
        if let Some(own) = claims.as_object_mut() {
            own.extend(wanted.claims.clone().unwrap_or_default());
        }
        let secret = key.sign(&claims);
        self.observation.issued([IssuedSecret {
            kind: "service_account_token".to_owned(),
            subject,
            audience: wanted.audiences.join(" "),
            secret: secret.clone(),
        }]);
        Ok(secret)
    }

    /// The published keys of a simulated issuer, as a JWKS document.
    pub(crate) fn issuer_jwks(&self, url: &str) -> Result<String, TokenError> {
        let state = self.state();
        let issuer = state.issuers.iter().find(|issuer| issuer.url == url);
        let Some(IssuerKeys::Simulated { kids }) = issuer.map(|issuer| &issuer.keys) else {
            return Err(TokenError::Issuer(url.to_owned()));
        };
        let set = self
            .keys
            .issuer_jwks(url, kids)
            .map_err(|error| TokenError::Key(error.into()))?;
        Ok(json!(set).to_string())
    }
}
