//! The simulator without sockets, in time that a test moves: what a broker's caches and budgets are tested against.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use azure_simulator::{
    Action, CloseAt, Fault, HangAt, InProcess, Issuer, Operation, Principal, Registry, Role, Service,
    ServiceAccountToken, State, Unanswered,
};
use bytes::Bytes;
use http::{Request, Response};
use jiff::Timestamp;
use serde_json::Value;

const TENANT: &str = "22222222-2222-2222-2222-222222222222";
const APP: &str = "33333333-3333-3333-3333-000000000001";
const OBJECT: &str = "44444444-4444-4444-4444-000000000001";
const ISSUER: &str = "https://oidc.example/cluster/";
const AUDIENCE: &str = "api://AzureCRTokenExchange";
const HOST: &str = "demo.azurecr.io";

/// Where the clock starts, in seconds. Far from the machine's time, so that a look at that would be noticed.
const START_S: i64 = 2_000_000_000;

/// A small Azure, and the clock that it goes by.
struct Azure {
    azure: InProcess,
    now_s: Arc<AtomicI64>,
}

impl Azure {
    fn new() -> Result<Self> {
        Self::with(Registry::new(HOST, TENANT))
    }

    fn with(registry: Registry) -> Result<Self> {
        let state = State::default()
            .with_tenant(TENANT)
            .with_issuer(Issuer::simulated(ISSUER))
            .with_principal(Principal::app(TENANT, APP, OBJECT).federated(
                ISSUER,
                "system:serviceaccount:web:app",
                AUDIENCE,
            ))
            .with_registry(registry.with_role(OBJECT, Role::AcrPull));
        let now_s = Arc::new(AtomicI64::new(START_S));
        let clock = Arc::clone(&now_s);
        let clock = Arc::new(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).expect("a time"));
        Ok(Self {
            azure: InProcess::new(state, clock)?,
            now_s,
        })
    }

    fn advance_s(&self, seconds: i64) {
        self.now_s.fetch_add(seconds, Ordering::Relaxed);
    }

    fn assertion(&self) -> Result<String> {
        let wanted = ServiceAccountToken::new(ISSUER, "web", "app", AUDIENCE);
        Ok(self.azure.service_account_token(&wanted)?)
    }

    async fn post(
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

    async fn entra(&self, assertion: &str) -> Result<Response<Bytes>, Unanswered> {
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

    async fn exchange(&self, entra_token: &str) -> Result<Response<Bytes>, Unanswered> {
        let form = [
            ("grant_type", "access_token"),
            ("service", HOST),
            ("access_token", entra_token),
        ];
        self.post(Service::Acr, &format!("https://{HOST}/oauth2/exchange"), &form)
            .await
    }

    async fn scoped(&self, refresh_token: &str) -> Result<Response<Bytes>, Unanswered> {
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

fn member(answer: &Response<Bytes>, name: &str) -> Result<String> {
    let body: Value = serde_json::from_slice(answer.body())?;
    let text = body.get(name).and_then(Value::as_str);
    text.map(str::to_owned)
        .with_context(|| format!("no {name} in {} {body}", answer.status()))
}

/// `exp` of a token, read as a client reads it.
fn expiry(token: &str) -> Result<i64> {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let claims = token.split('.').nth(1).context("no claims")?;
    let claims: Value = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims)?)?;
    claims.get("exp").and_then(Value::as_i64).context("no exp")
}

#[tokio::test(start_paused = true)]
async fn chain_in_process_goes_by_the_clock_it_was_given() -> Result<()> {
    let azure = Azure::new()?;
    let entra_token = member(&azure.entra(&azure.assertion()?).await?, "access_token")?;
    let refresh_token = member(&azure.exchange(&entra_token).await?, "refresh_token")?;
    assert_eq!(expiry(&refresh_token)?, START_S + 10_800);
    let access_token = member(&azure.scoped(&refresh_token).await?, "access_token")?;
    assert_eq!(expiry(&access_token)?, START_S + 3_600);

    azure.advance_s(10_799);
    assert_eq!(azure.scoped(&refresh_token).await?.status(), 200);
    azure.advance_s(1);
    assert_eq!(azure.scoped(&refresh_token).await?.status(), 401);
    let entry = azure.azure.log(0).pop().context("no log")?;
    assert_eq!(entry.at_real.as_second(), START_S + 10_800);
    assert_eq!(entry.duration_ms, Some(0));
    Ok(())
}

/// Also the measure of what a call costs: a thousand, nearly all of them with a signature.
#[tokio::test(start_paused = true)]
async fn rate_limit_of_a_registry_refills_by_the_given_clock() -> Result<()> {
    let mut registry = Registry::new(HOST, TENANT);
    registry.oauth_rpm = 600;
    let azure = Azure::with(registry)?;
    let entra_token = member(&azure.entra(&azure.assertion()?).await?, "access_token")?;
    let mut statuses = Vec::new();
    for call in 0..1_000 {
        if call == 700 {
            azure.advance_s(20);
        }
        statuses.push(azure.exchange(&entra_token).await?.status().as_u16());
    }
    let throttled = |calls: &[u16]| calls.iter().filter(|status| **status == 429).count();
    assert_eq!(throttled(&statuses[..600]), 0, "a full minute's budget");
    assert_eq!(throttled(&statuses[600..700]), 100, "time stands still");
    assert_eq!(throttled(&statuses[700..900]), 0, "20 s refill 200 calls");
    assert_eq!(throttled(&statuses[900..]), 100);
    let counters = azure.azure.counters();
    assert_eq!(counters.calls(Service::Acr, Operation::Exchange), 1_000);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn fault_window_and_countdown_go_by_the_given_clock() -> Result<()> {
    let azure = Azure::new()?;
    let at = |seconds: i64| Timestamp::from_second(START_S + seconds).ok();
    azure
        .azure
        .add_fault(Fault::outage(Service::Entra, at(60), at(120)))?;
    let assertion = azure.assertion()?;
    assert_eq!(azure.entra(&assertion).await?.status(), 200);
    azure.advance_s(60);
    assert_eq!(azure.entra(&assertion).await.err(), Some(Unanswered::Reset));
    azure.advance_s(60);
    assert_eq!(azure.entra(&assertion).await?.status(), 200);

    let countdown = Action::Throttle {
        retry_after: Some(azure_simulator::RetryAfter::Seconds(60)),
        countdown: true,
    };
    azure
        .azure
        .add_fault(Fault::new(countdown).on(Service::Acr, Operation::Exchange))?;
    azure.exchange("any").await?;
    azure.advance_s(10);
    assert_eq!(azure.exchange("any").await?.headers()["retry-after"], "50");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn hang_in_process_ends_with_the_callers_deadline() -> Result<()> {
    let azure = Azure::new()?;
    for at in [
        HangAt::Accept,
        HangAt::Tls,
        HangAt::BeforeHeaders,
        HangAt::MidBody,
    ] {
        azure.azure.reset();
        azure.azure.add_fault(
            Fault::new(Action::Hang { at })
                .on_service(Service::Acr)
                .named("silence"),
        )?;
        let waited = tokio::time::timeout(Duration::from_secs(3_600), azure.exchange("any")).await;
        assert!(waited.is_err(), "{at:?}: {waited:?}");
        let entry = azure.azure.log(0).pop().context("no log")?;
        assert!(entry.client_closed_early, "{at:?}");
        assert_eq!(entry.fault.as_deref(), Some("silence"), "{at:?}");
        let now = azure.azure.counters().in_flight[0].now;
        assert_eq!(now, 0, "{at:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn close_and_truncate_in_process_are_no_answer() -> Result<()> {
    let azure = Azure::new()?;
    let truncate = |keep_content_length| Action::Truncate {
        bytes: 5,
        keep_content_length,
    };
    for (action, expected) in [
        (Action::Close { at: CloseAt::Accept }, Err(Unanswered::Reset)),
        (Action::Close { at: CloseAt::Tls }, Err(Unanswered::Closed)),
        (
            Action::Close {
                at: CloseAt::BeforeHeaders,
            },
            Err(Unanswered::Closed),
        ),
        (Action::Close { at: CloseAt::MidBody }, Err(Unanswered::BrokenOff)),
        (truncate(true), Err(Unanswered::BrokenOff)),
        (truncate(false), Ok(5)),
    ] {
        azure.azure.clear_faults();
        azure
            .azure
            .add_fault(Fault::new(action.clone()).on_service(Service::Acr))?;
        let answer = azure.exchange("any").await;
        assert_eq!(answer.map(|answer| answer.body().len()), expected, "{action:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn latency_in_process_is_slept_in_virtual_time() -> Result<()> {
    let azure = Azure::new()?;
    azure
        .azure
        .update(|state| *state = state.clone().with_latency_ms(10_000))?;
    let started = tokio::time::Instant::now();
    let calls = futures::future::join_all((0..8).map(|_| azure.exchange("any"))).await;
    assert!(calls.iter().all(Result::is_ok));
    assert_eq!(started.elapsed(), Duration::from_secs(10));
    let exchanges = azure.azure.calls().of(Service::Acr, Operation::Exchange);
    assert_eq!(
        exchanges.max_concurrency(),
        8,
        "though the given clock stood still"
    );
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn calls_one_after_the_other_are_not_concurrent_though_time_stands_still() -> Result<()> {
    let azure = Azure::new()?;
    for _ in 0..3 {
        azure.exchange("any").await?;
    }
    assert_eq!(azure.azure.calls().max_concurrency(), 1);
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn host_that_is_no_registry_is_closed() -> Result<()> {
    let azure = Azure::new()?;
    let answer = azure
        .post(Service::Acr, "https://nobody.azurecr.io/v2/", &[])
        .await;
    assert_eq!(answer.err(), Some(Unanswered::Closed));
    Ok(())
}
