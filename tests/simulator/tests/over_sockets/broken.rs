//! Connections that end wrong: silent, closed, reset or spoilt at each stage, over HTTP/1.1 and HTTP/2.

use std::time::Duration;

use anyhow::Result;
use azure_simulator::{
    Action, CloseAt, Fault, HangAt, LogEntry, Operation, Registry, Role, Service, TlsDefect,
};
use reqwest::Client;

use crate::azure::{ACR_SCOPE, APP_OBJECT, HOST, TENANT, Walk, builder, state};

/// After the fault has hit: an answer would be there by then.
const STILL_SILENT: Duration = Duration::from_millis(150);

/// What a client is to speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
}

const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

/// Asks a registry for an exchange that it would refuse, on a connection of its own that leads there directly.
async fn exchange(walk: &Walk, speaks: Speaks) -> reqwest::Result<(u16, String)> {
    let acr = walk.azure.addresses().acr;
    let client = walk.azure.direct_client()?.resolve(HOST, acr);
    let client = match speaks {
        Speaks::Http1 => client.http1_only(),
        Speaks::Http2 => client.http2_prior_knowledge(),
    };
    asked(&client.build()?, &format!("https://{HOST}:{}", acr.port())).await
}

async fn asked(client: &Client, base: &str) -> reqwest::Result<(u16, String)> {
    let request = client
        .post(format!("{base}/oauth2/exchange"))
        .form(&[("grant_type", "access_token"), ("access_token", "none")]);
    let response = request.send().await?;
    Ok((response.status().as_u16(), response.text().await?))
}

/// The fault where it can act.
fn fault(action: Action, is_early: bool) -> Fault {
    let fault = Fault::new(action).named("wrong");
    if is_early {
        fault.on_service(Service::Acr)
    } else {
        fault.on(Service::Acr, Operation::Exchange)
    }
}

/// Whether somewhere under this error a connection was reset. HTTP/2 keeps no I/O error to look for, only its kind.
fn is_reset(error: &reqwest::Error) -> bool {
    format!("{error:?}").contains("ConnectionReset")
}

/// The log entry that the fault has hit and that meets the condition, once the simulator has noticed.
async fn logged(walk: &Walk, wanted: impl Fn(&LogEntry) -> bool) -> Result<LogEntry> {
    for _ in 0..500 {
        let calls = walk
            .azure
            .calls()
            .to(Service::Acr)
            .filter(|entry| entry.fault.as_deref() == Some("wrong") && wanted(entry));
        if let Some(entry) = calls.entries().first() {
            return Ok(entry.clone());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    anyhow::bail!("no such call: {:#?}", walk.azure.log(0))
}

#[tokio::test]
async fn hang_at_each_stage_lasts_until_the_client_gives_up() -> Result<()> {
    let walk = Walk::start().await?;
    for (at, speaks) in [
        HangAt::Accept,
        HangAt::Tls,
        HangAt::BeforeHeaders,
        HangAt::MidHeaders,
        HangAt::MidBody,
    ]
    .into_iter()
    .flat_map(|at| BOTH.map(|speaks| (at, speaks)))
    {
        walk.azure.reset();
        let is_early = matches!(at, HangAt::Accept | HangAt::Tls);
        walk.azure.add_fault(fault(Action::Hang { at }, is_early))?;
        let silent = async {
            logged(&walk, |_| true).await?;
            tokio::time::sleep(STILL_SILENT).await;
            anyhow::Ok(())
        };
        tokio::select! {
            outcome = exchange(&walk, speaks) => panic!("{at:?} {speaks:?}: {outcome:?}"),
            silent = silent => silent?,
        }
        // The client has given up with that.
        let entry = logged(&walk, |entry| entry.client_closed_early).await?;
        let waited = entry.duration_ms.unwrap_or_default();
        assert!(
            waited >= 100 || matches!(at, HangAt::MidHeaders | HangAt::MidBody),
            "{at:?} {speaks:?} waited {waited} ms"
        );
    }
    Ok(())
}

#[tokio::test]
async fn hang_of_one_host_leaves_other_hosts_alone() -> Result<()> {
    let other = Registry::new("other.azurecr.io", TENANT).with_role(APP_OBJECT, Role::AcrPull);
    let walk = Walk::with(builder().state(state().with_registry(other))).await?;
    let hang = Fault::new(Action::Hang { at: HangAt::Tls });
    walk.azure.add_fault(hang.on_service(Service::Acr).host(HOST))?;
    let entra_token = walk.entra_token().await?;
    assert_eq!(
        walk.exchange("other.azurecr.io", &entra_token).await?.status(),
        200
    );
    Ok(())
}

const EVERY_END: [CloseAt; 5] = [
    CloseAt::Accept,
    CloseAt::Tls,
    CloseAt::BeforeHeaders,
    CloseAt::MidHeaders,
    CloseAt::MidBody,
];

#[tokio::test]
async fn close_at_each_stage_is_no_answer_and_no_reset() -> Result<()> {
    let walk = Walk::start().await?;
    for (at, speaks) in EVERY_END
        .into_iter()
        .flat_map(|at| BOTH.map(|speaks| (at, speaks)))
    {
        walk.azure.reset();
        let is_early = matches!(at, CloseAt::Accept | CloseAt::Tls);
        walk.azure.add_fault(fault(Action::Close { at }, is_early))?;
        let error = exchange(&walk, speaks).await.expect_err("closed");
        assert!(!error.is_timeout(), "{at:?} {speaks:?}: {error:?}");
        assert_eq!(
            is_reset(&error),
            at == CloseAt::Accept,
            "{at:?} {speaks:?}: {error:?}"
        );
        let entry = logged(&walk, |entry| entry.duration_ms.is_some()).await?;
        assert!(!entry.client_closed_early, "{at:?} {speaks:?}");
    }
    Ok(())
}

#[tokio::test]
async fn reset_at_each_stage_is_a_reset() -> Result<()> {
    let walk = Walk::start().await?;
    for (at, speaks) in EVERY_END
        .into_iter()
        .flat_map(|at| BOTH.map(|speaks| (at, speaks)))
    {
        walk.azure.reset();
        let is_early = matches!(at, CloseAt::Accept | CloseAt::Tls);
        walk.azure.add_fault(fault(Action::Reset { at }, is_early))?;
        let error = exchange(&walk, speaks).await.expect_err("reset");
        assert!(is_reset(&error), "{at:?} {speaks:?}: {error:?}");
    }
    Ok(())
}

#[tokio::test]
async fn reset_comes_through_the_egress_proxy() -> Result<()> {
    let walk = Walk::start().await?;
    let reset = Action::Reset {
        at: CloseAt::BeforeHeaders,
    };
    walk.azure.add_fault(fault(reset, false))?;
    let error = asked(&walk.http, &format!("https://{HOST}"))
        .await
        .expect_err("reset");
    assert!(is_reset(&error), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn truncated_body_is_broken_or_looks_complete() -> Result<()> {
    let walk = Walk::start().await?;
    for speaks in BOTH {
        for keep_content_length in [true, false] {
            walk.azure.clear_faults();
            let truncate = Action::Truncate {
                bytes: 10,
                keep_content_length,
            };
            walk.azure.add_fault(fault(truncate, false))?;
            match exchange(&walk, speaks).await {
                Ok((_, text)) => assert!(!keep_content_length && text.len() == 10, "{text}"),
                Err(error) => assert!(keep_content_length && !error.is_timeout(), "{error:?}"),
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn bad_chunking_is_no_body() -> Result<()> {
    let walk = Walk::start().await?;
    walk.azure.add_fault(fault(Action::BadChunking {}, false))?;
    for speaks in BOTH {
        let error = exchange(&walk, speaks).await.expect_err("no size");
        assert!(!error.is_timeout(), "{speaks:?}: {error:?}");
        assert_eq!(
            error.is_decode() || error.is_body(),
            speaks == Speaks::Http1,
            "the head arrives where there are chunks: {error:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn tls_defect_ends_the_handshake_and_is_logged() -> Result<()> {
    let walk = Walk::start().await?;
    for (defect, reason) in [
        (TlsDefect::Expired, "ExpiredContext"),
        (TlsDefect::WrongName, "NotValidForNameContext"),
        (TlsDefect::Untrusted, "UnknownIssuer"),
        (TlsDefect::OldVersion, "ServerDoesNotSupportTls12Or13"),
    ] {
        walk.azure.reset();
        let spoilt = fault(Action::Tls { defect }, true).host(HOST);
        walk.azure.add_fault(spoilt)?;
        let error = exchange(&walk, Speaks::Http1)
            .await
            .expect_err("no client may go on");
        assert!(error.is_connect(), "{defect:?}: {error:?}");
        let text = format!("{error:?}");
        assert!(text.contains(reason), "{defect:?}: {text}");
        let entry = logged(&walk, |entry| entry.duration_ms.is_some()).await?;
        assert_eq!((entry.op, entry.host.as_str()), (Operation::Connect, HOST));
        assert!(!entry.client_closed_early && entry.status.is_none(), "{defect:?}");
    }
    walk.azure.clear_faults();
    assert_eq!(exchange(&walk, Speaks::Http1).await?.0, 401);
    Ok(())
}

#[tokio::test]
async fn tls_defect_does_nothing_to_a_connection_from_before() -> Result<()> {
    let walk = Walk::start().await?;
    let before = asked(&walk.http, &format!("https://{HOST}")).await?;
    let expired = Action::Tls {
        defect: TlsDefect::Expired,
    };
    walk.azure.add_fault(fault(expired, true))?;
    assert_eq!(asked(&walk.http, &format!("https://{HOST}")).await?.0, before.0);
    Ok(())
}

#[tokio::test]
async fn outage_refuses_connections_in_its_window() -> Result<()> {
    let walk = Walk::start().await?;
    assert_eq!(walk.entra(&walk.assertion()?, ACR_SCOPE).await?.status(), 200);
    walk.azure.add_fault(Fault::outage(Service::Entra, None, None))?;
    assert!(
        walk.entra(&walk.assertion()?, ACR_SCOPE).await.is_err(),
        "on the connection from before"
    );
    assert!(
        walk.entra(&walk.assertion()?, ACR_SCOPE).await.is_err(),
        "on a new one"
    );
    walk.azure.clear_faults();
    assert_eq!(walk.entra(&walk.assertion()?, ACR_SCOPE).await?.status(), 200);
    Ok(())
}
