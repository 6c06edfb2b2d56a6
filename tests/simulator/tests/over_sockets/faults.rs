//! Faults, as a client feels them.

use std::time::{Duration, Instant};

use anyhow::Result;
use azure_simulator::{Action, ClockChange, Fault, Operation, RetryAfter, RetryAfterText, Service};
use serde_json::json;

use crate::azure::{ACR_SCOPE, HOST, SCOPE, Walk, answer, builder, exchange_with, state, token};

#[tokio::test]
async fn throttle_carries_every_form_of_retry_after() -> Result<()> {
    let walk = Walk::start().await?;
    for (retry_after, expected) in [
        (Some(RetryAfter::Seconds(7)), Some("7")),
        (Some(RetryAfter::Seconds(-1)), Some("-1")),
        (Some(RetryAfter::Text(RetryAfterText::Garbage)), Some("soon")),
        (None, None),
    ] {
        let response = exchange_with(
            &walk,
            Action::Throttle {
                retry_after,
                countdown: false,
            },
        )
        .await??;
        assert_eq!(response.status(), 429);
        let header = response
            .headers()
            .get("retry-after")
            .map(|value| value.to_str())
            .transpose()?;
        assert_eq!(header, expected);
        let (_, body) = answer(response).await?;
        assert_eq!(body["errors"][0]["code"], "TOOMANYREQUESTS");
    }
    let date = Action::Throttle {
        retry_after: Some(RetryAfter::Text(RetryAfterText::HttpDate)),
        countdown: false,
    };
    let response = exchange_with(&walk, date).await??;
    let date = response.headers()["retry-after"].to_str()?.to_owned();
    assert!(date.ends_with(" GMT"), "{date}");
    Ok(())
}

#[tokio::test]
async fn status_hits_as_often_as_it_should() -> Result<()> {
    let walk = Walk::start().await?;
    walk.azure.add_fault(
        Fault::new(Action::status(503))
            .on(Service::Entra, Operation::Token)
            .nth(&[1, 3]),
    )?;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(walk.entra(&walk.assertion()?, ACR_SCOPE).await?.status().as_u16());
    }
    assert_eq!(statuses, [503, 200, 503, 200]);
    Ok(())
}

#[tokio::test]
async fn latency_of_the_state_and_of_a_fault_add_up() -> Result<()> {
    let walk = Walk::with(builder().state(state().with_latency_ms(100))).await?;
    let started = Instant::now();
    walk.entra_token().await?;
    let usual = started.elapsed();
    assert!(usual >= Duration::from_millis(100), "{usual:?}");
    let response = exchange_with(
        &walk,
        Action::Latency {
            ms: 200,
            jitter_ms: 0,
        },
    )
    .await??;
    assert_eq!(response.status(), 200);
    let entry = walk.azure.calls().of(Service::Acr, Operation::Exchange).entries()[0].clone();
    assert!(entry.duration_ms >= Some(300), "{:?}", entry.duration_ms);
    Ok(())
}

#[tokio::test]
async fn slow_body_takes_its_time() -> Result<()> {
    let walk = Walk::start().await?;
    let started = Instant::now();
    let slow = exchange_with(&walk, Action::SlowBody { bytes_per_s: 10_000 }).await??;
    let body = slow.text().await?;
    let expected = Duration::from_secs(1).mul_f64(f64::from(u32::try_from(body.len())?) / 10_000.0 / 2.0);
    assert!(
        started.elapsed() >= expected && body.contains("refresh_token"),
        "{:?}",
        started.elapsed()
    );
    Ok(())
}

#[tokio::test]
async fn flip_changes_the_state_at_the_call_it_names() -> Result<()> {
    let walk = Walk::start().await?;
    let revoke = Action::Flip {
        pointer: "/registries/0/roles".to_owned(),
        value: json!([]),
    };
    walk.azure
        .add_fault(Fault::new(revoke).on(Service::Acr, Operation::Exchange).nth(&[2]))?;
    let entra_token = walk.entra_token().await?;
    assert_eq!(walk.exchange(HOST, &entra_token).await?.status(), 200);
    assert_eq!(walk.exchange(HOST, &entra_token).await?.status(), 401);
    Ok(())
}

#[tokio::test]
async fn flip_at_an_instant_waits_for_it() -> Result<()> {
    let walk = Walk::start().await?;
    let in_a_minute = jiff::Timestamp::now().checked_add(Duration::from_secs(60))?;
    let disable = Action::Flip {
        pointer: "/principals/0/enabled".to_owned(),
        value: json!(false),
    };
    walk.azure.add_fault(
        Fault::new(disable)
            .on_service(Service::Entra)
            .within(Some(in_a_minute), None)
            .times(1),
    )?;
    assert_eq!(walk.entra(&walk.assertion()?, ACR_SCOPE).await?.status(), 200);
    walk.azure.change_clock(ClockChange::advance_s(61))?;
    let (_, body) = answer(walk.entra(&walk.assertion()?, ACR_SCOPE).await?).await?;
    assert_eq!(body["error_codes"][0], 7_000_229);
    Ok(())
}

#[tokio::test]
async fn flap_takes_turns() -> Result<()> {
    let walk = Walk::start().await?;
    let flapping = Fault::new(Action::status(503)).flapping(2, 2);
    walk.azure
        .add_fault(flapping.on(Service::Entra, Operation::Token))?;
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(walk.entra(&walk.assertion()?, ACR_SCOPE).await?.status().as_u16());
    }
    assert_eq!(statuses, [200, 200, 503, 503, 200, 200]);
    Ok(())
}

#[tokio::test]
async fn short_lives_overrule_all_lifetimes() -> Result<()> {
    let walk = Walk::start().await?;
    walk.azure.update(|state| {
        state.short_lived.entra_s = Some(20);
        state.short_lived.refresh_s = Some(30);
    })?;
    let (_, body) = answer(walk.entra(&walk.assertion()?, ACR_SCOPE).await?).await?;
    assert_eq!(body["expires_in"], 20);
    let entra_token = walk.entra_token().await?;
    let refresh_token = token(walk.exchange(HOST, &entra_token).await?, "refresh_token").await?;
    walk.azure.change_clock(ClockChange::advance_s(31))?;
    assert_eq!(walk.scoped(&refresh_token, SCOPE).await?.status(), 401);
    Ok(())
}
