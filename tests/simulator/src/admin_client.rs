//! The admin API from Rust, for a simulator that runs as a process of its own.

use std::{net::SocketAddr, time::Duration};

use reqwest::{Method, RequestBuilder, Url};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::{
    Calls, ClockChange, ClockSettings, Counters, Fault, IssuedSecret, LogEntry, ServiceAccountToken, State,
};

/// The simulator answers at once or is gone.
const TIMEOUT: Duration = Duration::from_secs(10);

/// A client of one simulator's admin API.
#[derive(Debug, Clone)]
pub struct AdminClient {
    base: Url,
    http: reqwest::Client,
}

/// An admin call that failed.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The simulator could not be asked.
    #[error("failed to ask the simulator at {url}")]
    Transport {
        /// What was asked.
        url: Url,
        /// Why it failed.
        #[source]
        source: reqwest::Error,
    },
    /// The simulator refuses.
    #[error("the simulator refuses {url}: {reason}")]
    Refused {
        /// What was asked.
        url: Url,
        /// In its words.
        reason: String,
    },
    /// The address is none.
    #[error("{0:?} is no address of a simulator")]
    Address(String),
}

impl AdminClient {
    /// A client of the simulator whose admin listener is at this address.
    ///
    /// # Errors
    /// [`AdminError::Address`] if no client can be made for it.
    pub fn new(address: SocketAddr) -> Result<Self, AdminError> {
        let bad = || AdminError::Address(address.to_string());
        let base = Url::parse(&format!("http://{address}/_sim/")).map_err(|_invalid| bad())?;
        // Nothing but the simulator itself may answer, whatever the environment says about proxies.
        let http = reqwest::Client::builder()
            .timeout(TIMEOUT)
            .no_proxy()
            .build()
            .map_err(|_invalid| bad())?;
        Ok(Self { base, http })
    }

    /// The state.
    ///
    /// # Errors
    /// As every call: [`AdminError::Transport`] if the simulator does not answer, [`AdminError::Refused`] if it refuses.
    pub async fn state(&self) -> Result<State, AdminError> {
        self.json(self.request(Method::GET, "state")).await
    }

    /// Replaces the state.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn put_state(&self, state: &State) -> Result<(), AdminError> {
        self.done(self.request(Method::PUT, "state").json(state)).await
    }

    /// Reads the state, changes it and puts it back. Two at a time may undo each other.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn update(&self, change: impl FnOnce(&mut State)) -> Result<(), AdminError> {
        let mut state = self.state().await?;
        change(&mut state);
        self.put_state(&state).await
    }

    /// Moves or sets simulated time.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn change_clock(&self, change: &ClockChange) -> Result<ClockSettings, AdminError> {
        self.json(self.request(Method::POST, "clock").json(change)).await
    }

    /// Adds a fault at the end of the list and returns its name.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn add_fault(&self, fault: &Fault) -> Result<String, AdminError> {
        let answer: Value = self
            .json(self.request(Method::POST, "faults").json(fault))
            .await?;
        Ok(text(&answer, "id"))
    }

    /// Removes every fault.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn clear_faults(&self) -> Result<(), AdminError> {
        self.done(self.request(Method::DELETE, "faults")).await
    }

    /// Everything as it was at the start.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn reset(&self) -> Result<(), AdminError> {
        self.done(self.request(Method::POST, "reset")).await
    }

    /// Log entries after a sequence number.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn log(&self, since: u64) -> Result<Vec<LogEntry>, AdminError> {
        self.json(self.request(Method::GET, "log").query(&[("since", since)]))
            .await
    }

    /// The whole log, to be asked.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn calls(&self) -> Result<Calls, AdminError> {
        self.log(0).await.map(Calls::new)
    }

    /// The counters.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn counters(&self) -> Result<Counters, AdminError> {
        self.json(self.request(Method::GET, "counters")).await
    }

    /// Every secret that was handed out.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn issued(&self) -> Result<Vec<IssuedSecret>, AdminError> {
        self.json(self.request(Method::GET, "issued")).await
    }

    /// Every assertion that came to Entra, good or bad.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn assertions(&self) -> Result<Vec<String>, AdminError> {
        self.json(self.request(Method::GET, "assertions")).await
    }

    /// Mints a ServiceAccount token of a simulated issuer.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn service_account_token(&self, wanted: &ServiceAccountToken) -> Result<String, AdminError> {
        let answer: Value = self
            .json(self.request(Method::POST, "sa-token").json(wanted))
            .await?;
        Ok(text(&answer, "token"))
    }

    /// The JWKS document of a simulated issuer.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn issuer_jwks(&self, issuer: &str) -> Result<String, AdminError> {
        self.text(
            self.request(Method::GET, "issuer-jwks")
                .query(&[("issuer", issuer)]),
        )
        .await
    }

    /// The JWKS document that a real registry must trust.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn acr_jwks(&self) -> Result<String, AdminError> {
        self.text(self.request(Method::GET, "acr-jwks")).await
    }

    /// The certificate of the simulator's authority.
    ///
    /// # Errors
    /// As [`AdminClient::state`].
    pub async fn ca_pem(&self) -> Result<String, AdminError> {
        self.text(self.request(Method::GET, "ca.pem")).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let url = self
            .base
            .join(path)
            .expect("a path that is written here must fit the base");
        self.http.request(method, url)
    }

    async fn text(&self, request: RequestBuilder) -> Result<String, AdminError> {
        let transport = |source| AdminError::Transport {
            url: self.base.clone(),
            source,
        };
        let response = request.send().await.map_err(transport)?;
        let (status, url) = (response.status(), response.url().clone());
        let body = response.text().await.map_err(transport)?;
        if status.is_success() {
            Ok(body)
        } else {
            Err(AdminError::Refused { url, reason: body })
        }
    }

    async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, AdminError> {
        let body = self.text(request).await?;
        serde_json::from_str(&body).map_err(|error| AdminError::Refused {
            url: self.base.clone(),
            reason: format!("an answer that is not understood: {error}"),
        })
    }

    async fn done(&self, request: RequestBuilder) -> Result<(), AdminError> {
        self.text(request).await.map(drop)
    }
}

fn text(answer: &Value, member: &str) -> String {
    answer
        .get(member)
        .and_then(Value::as_str)
        .unwrap_or_default()
        .to_owned()
}
