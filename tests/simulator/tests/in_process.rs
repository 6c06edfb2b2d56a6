//! The simulator without sockets, in time that a test moves: what a broker's caches and budgets are tested against.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result};
use azure_simulator::{
    Action, CloseAt, Fault, HangAt, InProcess, Operation, Registry, RetryAfter, Service, TlsDefect,
    Unanswered,
};
use jiff::Timestamp;

#[path = "in_process/azure.rs"]
mod azure;

use azure::{Azure, HOST, START_S, TENANT, expiry, member, state};

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
        retry_after: Some(RetryAfter::Seconds(60)),
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
        HangAt::MidHeaders,
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
async fn broken_answer_in_process_says_how_it_broke() -> Result<()> {
    let azure = Azure::new()?;
    let close = |at| Action::Close { at };
    let reset = |at| Action::Reset { at };
    let truncate = |keep_content_length| Action::Truncate {
        bytes: 5,
        keep_content_length,
    };
    let expired = Action::Tls {
        defect: TlsDefect::Expired,
    };
    for (action, expected) in [
        (close(CloseAt::Accept), Err(Unanswered::Reset)),
        (close(CloseAt::Tls), Err(Unanswered::Closed)),
        (close(CloseAt::BeforeHeaders), Err(Unanswered::Closed)),
        (close(CloseAt::MidHeaders), Err(Unanswered::Closed)),
        (close(CloseAt::MidBody), Err(Unanswered::BrokenOff)),
        (reset(CloseAt::Tls), Err(Unanswered::Reset)),
        (reset(CloseAt::BeforeHeaders), Err(Unanswered::Reset)),
        (reset(CloseAt::MidHeaders), Err(Unanswered::Reset)),
        (reset(CloseAt::MidBody), Err(Unanswered::Reset)),
        (Action::BadChunking {}, Err(Unanswered::BrokenOff)),
        (truncate(true), Err(Unanswered::BrokenOff)),
        (truncate(false), Ok(5)),
        (expired, Err(Unanswered::Handshake)),
    ] {
        azure.azure.reset();
        azure
            .azure
            .add_fault(Fault::new(action.clone()).on_service(Service::Acr))?;
        let answer = azure.exchange("any").await;
        assert_eq!(answer.map(|answer| answer.body().len()), expected, "{action:?}");
        let entry = azure.azure.log(0).pop().context("no log")?;
        assert!(!entry.client_closed_early, "{action:?}");
    }
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn tls_fault_in_process_spares_the_metadata_service() -> Result<()> {
    let azure = Azure::new()?;
    azure
        .azure
        .add_fault(Fault::new(Action::Close { at: CloseAt::Tls }))?;
    let answer = azure
        .post(Service::Imds, "http://169.254.169.254/metadata/instance", &[])
        .await?;
    assert_eq!(answer.status(), 404, "it has no TLS that could fail");
    Ok(())
}

#[tokio::test(start_paused = true)]
async fn date_in_process_is_the_given_time() -> Result<()> {
    let azure = Azure::new()?;
    let answer = azure.exchange("any").await?;
    assert_eq!(answer.headers()["date"], "Wed, 18 May 2033 03:33:20 GMT");
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

/// One time for everything: what is slept is also what the clock shows.
#[tokio::test(start_paused = true)]
async fn clock_may_follow_tokios_virtual_time() -> Result<()> {
    let started = tokio::time::Instant::now();
    let start = Timestamp::from_second(START_S)?;
    let clock = Arc::new(move || start.checked_add(started.elapsed()).expect("a time"));
    let azure = InProcess::new(state(Registry::new(HOST, TENANT)).with_latency_ms(2_000), clock)?;
    let challenge = || http::Request::get(format!("https://{HOST}/v2/")).body(bytes::Bytes::new());
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    let answer = azure.answer(Service::Acr, challenge()?).await?;
    assert_eq!(answer.headers()["date"], "Wed, 18 May 2033 04:33:22 GMT");
    let entry = azure.log(0).pop().context("no log")?;
    assert_eq!(entry.at_real.as_second(), START_S + 3_600);
    assert_eq!(entry.duration_ms, Some(2_000));
    Ok(())
}
