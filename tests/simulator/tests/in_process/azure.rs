//! A small Azure in process, the clock that it goes by, and a client that walks through it.

use std::sync::{
    Arc,
    atomic::{AtomicI64, Ordering},
};

use anyhow::{Context, Result};
use azure_simulator::{
    InProcess, Issuer, Principal, Registry, Role, Service, ServiceAccountToken, State, Unanswered,
};
use bytes::Bytes;
use http::{Request, Response};
use jiff::Timestamp;
use serde_json::Value;

pub(crate) const TENANT: &str = "22222222-2222-2222-2222-222222222222";
const APP: &str = "33333333-3333-3333-3333-000000000001";
const OBJECT: &str = "44444444-4444-4444-4444-000000000001";
const ISSUER: &str = "https://oidc.example/cluster/";
const AUDIENCE: &str = "api://AzureCRTokenExchange";
pub(crate) const HOST: &str = "demo.azurecr.io";

/// Where the clock starts, in seconds. Far from the machine's time, so that a look at that would be noticed.
pub(crate) const START_S: i64 = 2_000_000_000;

/// An application that is federated with `web/app` and may pull from one registry.
pub(crate) fn state(registry: Registry) -> State {
    let app = Principal::app(TENANT, APP, OBJECT);
    State::default()
        .with_tenant(TENANT)
        .with_issuer(Issuer::simulated(ISSUER))
        .with_principal(app.federated(ISSUER, "system:serviceaccount:web:app", AUDIENCE))
        .with_registry(registry.with_role(OBJECT, Role::AcrPull))
}

/// A small Azure, and the clock that it goes by.
pub(crate) struct Azure {
    pub(crate) azure: InProcess,
    now_s: Arc<AtomicI64>,
}

impl Azure {
    pub(crate) fn new() -> Result<Self> {
        Self::with(Registry::new(HOST, TENANT))
    }

    pub(crate) fn with(registry: Registry) -> Result<Self> {
        let now_s = Arc::new(AtomicI64::new(START_S));
        let clock = Arc::clone(&now_s);
        let clock = Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).expect("a time"));
        Ok(Self {
            azure: InProcess::new(state(registry), clock)?,
            now_s,
        })
    }

    pub(crate) fn advance_s(&self, seconds: i64) {
        self.now_s.fetch_add(seconds, Ordering::Relaxed);
    }

    pub(crate) fn assertion(&self) -> Result<String> {
        let wanted = ServiceAccountToken::new(ISSUER, "web", "app", AUDIENCE);
        Ok(self.azure.service_account_token(&wanted)?)
    }

    pub(crate) async fn post(
        &self,
        service: Service,
        url: &str,
        form: &[(&str, &str)],
    ) -> Result<Response<Bytes>, Unanswered> {
        let body = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs(form)
            .finish();
        let request = Request::post(url)
            .header("content-type", "application/x-www-form-urlencoded")
            .body(Bytes::from(body))
            .expect("a request");
        self.azure.answer(service, request).await
    }

    pub(crate) async fn entra(&self, assertion: &str) -> Result<Response<Bytes>, Unanswered> {
        let url = format!("https://login.microsoftonline.com/{TENANT}/oauth2/v2.0/token");
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", APP),
            (
                "client_assertion_type",
                "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            ),
            ("client_assertion", assertion),
            ("scope", "https://containerregistry.azure.net/.default"),
        ];
        self.post(Service::Entra, &url, &form).await
    }

    pub(crate) async fn exchange(&self, entra_token: &str) -> Result<Response<Bytes>, Unanswered> {
        let form = [
            ("grant_type", "access_token"),
            ("service", HOST),
            ("access_token", entra_token),
        ];
        self.post(Service::Acr, &format!("https://{HOST}/oauth2/exchange"), &form)
            .await
    }

    pub(crate) async fn scoped(&self, refresh_token: &str) -> Result<Response<Bytes>, Unanswered> {
        let form = [
            ("grant_type", "refresh_token"),
            ("service", HOST),
            ("scope", "repository:team/app:pull"),
            ("refresh_token", refresh_token),
        ];
        self.post(Service::Acr, &format!("https://{HOST}/oauth2/token"), &form)
            .await
    }
}

pub(crate) fn member(answer: &Response<Bytes>, name: &str) -> Result<String> {
    let body: Value = serde_json::from_slice(answer.body())?;
    let text = body.get(name).and_then(Value::as_str);
    text.map(str::to_owned)
        .with_context(|| format!("no {name} in {} {body}", answer.status()))
}

/// `exp` of a token, read as a client reads it.
pub(crate) fn expiry(token: &str) -> Result<i64> {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let claims = token.split('.').nth(1).context("no claims")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    claims.get("exp").and_then(Value::as_i64).context("no exp")
}
