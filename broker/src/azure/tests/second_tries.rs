//! Second tries of what failed are few, whatever the first one failed of; those that help are free.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use proto::Reason;
use tokio::time::{Instant, sleep};

use super::{
    one_call::{federated, identity},
    rig::{Reaction, Rig, attempt, most_within, refresh_token_body, status, token},
};
use crate::{
    authz::TokenSource,
    azure::{
        Attempt,
        transport::{Part, TransportError},
    },
    error::CredentialError,
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const CLIENT: &str = "00000001-0000-0000-0000-000000000000";

fn answer(status: u16, body: impl Into<String>) -> Reaction {
    Reaction::Answer {
        after: Duration::from_millis(50),
        status,
        headers: Vec::new(),
        body: body.into(),
    }
}

fn html(status: u16) -> Reaction {
    answer(status, "<html>sign in to the proxy</html>")
}

fn second_try() -> Attempt {
    Attempt {
        is_retry: true,
        ..attempt("a")
    }
}

#[tokio::test(start_paused = true)]
async fn u2_failed_retries_at_a_flaky_registry_are_ten_a_minute() {
    let calls = AtomicU32::new(0);
    let rig = Rig::new(move |sent| {
        // Never five in a row, so that the circuit does not step in.
        if calls.fetch_add(1, Ordering::SeqCst) % 3 < 2 {
            status(503, &[])
        } else {
            token(50 * Duration::from_millis(1), &sent.host)
        }
    });
    let mut retry = attempt("a");
    retry.is_retry = true;
    let mut failed = Vec::new();
    for _ in 0..600 {
        match rig.ask("r.azurecr.io", &retry).await {
            Err(error) if !error.is_remembered => failed.push(Instant::now()),
            Err(error) => assert!(error.retry_after.unwrap() >= SECOND),
            Ok(_) => {}
        }
        sleep(SECOND / 2).await;
    }
    assert!(most_within(&failed, MINUTE) <= 10);
    assert!(failed.len() >= 30, "and they are not starved: {}", failed.len());
}

#[tokio::test(start_paused = true)]
async fn u2_after_an_outage_second_tries_that_succeed_are_not_held_back() {
    let started = Instant::now();
    let rig = Rig::new(move |sent| {
        if started.elapsed() < MINUTE {
            status(503, &[])
        } else {
            token(50 * Duration::from_millis(1), &sent.host)
        }
    });
    let mut retry = attempt("a");
    retry.is_retry = true;
    while started.elapsed() < MINUTE {
        assert!(rig.ask("r.azurecr.io", &retry).await.is_err());
        sleep(SECOND).await;
    }
    assert!(
        rig.transport.log().len() <= 10,
        "five to open the circuit, few trials, no more"
    );
    let mut healed = 0;
    while healed < 1000 {
        healed += u32::from(rig.ask("r.azurecr.io", &retry).await.is_ok());
        sleep(SECOND / 100).await;
        assert!(started.elapsed() < 4 * MINUTE, "healed {healed}");
    }
}

#[tokio::test(start_paused = true)]
async fn u2_second_tries_of_a_thousand_keys_at_a_registry_that_answers_html_stay_within_the_budget() {
    const KEYS: usize = 1000;
    let rig = Arc::new(Rig::new(|_| html(200)));
    let started = Instant::now();
    let keys: Vec<_> = (0..KEYS)
        .map(|key| {
            let rig = Arc::clone(&rig);
            runtime::tasks::spawn_detached(async move {
                let mut attempt = attempt(&format!("n{}", key % 50));
                let (mut first, mut second) = (Vec::new(), Vec::new());
                while started.elapsed() < 10 * MINUTE {
                    let error = rig.ask("r.azurecr.io", &attempt).await.err().unwrap();
                    assert_eq!(error.reason, Reason::UpstreamMalformed, "{error}");
                    let wait = error.retry_after.unwrap_or(SECOND);
                    if !error.is_remembered {
                        // It left 50 ms ago.
                        if attempt.is_retry { &mut second } else { &mut first }.push(Instant::now());
                        attempt.is_retry = true;
                    }
                    sleep(wait).await;
                }
                (first, second)
            })
        })
        .collect();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    for key in keys {
        let (of_first, of_second) = key.await.unwrap();
        first.extend(of_first);
        second.extend(of_second);
    }
    first.sort();
    second.sort();
    assert_eq!(
        (first.len(), rig.transport.log().len()),
        (KEYS, KEYS + second.len())
    );
    // The first tries are over within a minute; from then on it is ten a minute.
    let (early, late) = second.split_at(second.partition_point(|at| *at < started + 2 * MINUTE));
    let most_early = most_within(early, MINUTE);
    assert!(most_early <= KEYS / 10, "{most_early}");
    assert!(most_within(late, MINUTE) <= 10);
    assert!(late.len() >= 50, "and they are not starved: {}", late.len());
}

/// How many of 200 second tries at the same moment leave, and what the last is told.
async fn second_tries(
    ask: impl AsyncFn(&Attempt) -> Result<(), CredentialError>,
) -> (usize, Option<CredentialError>) {
    let (mut left, mut last) = (0, None);
    for _ in 0..200 {
        last = ask(&second_try()).await.err();
        left += usize::from(last.as_ref().is_none_or(|error| !error.is_remembered));
    }
    (left, last)
}

#[tokio::test(start_paused = true)]
async fn u2_second_try_that_is_answered_and_not_helped_is_not_free() {
    let registry: [fn() -> Reaction; 7] = [
        || html(200),
        || answer(200, refresh_token_body("other.azurecr.io")),
        // Expired in 1970.
        || answer(200, r#"{"refresh_token":"e30.eyJleHAiOjF9.c2ln"}"#),
        || status(307, &[("location", "https://elsewhere.example")]),
        || html(405),
        || Reaction::Fail(TransportError::Oversized(Part::Body)),
        || Reaction::Fail(TransportError::Oversized(Part::Headers)),
    ];
    for (case, reaction) in registry.into_iter().enumerate() {
        let rig = Rig::new(move |_| reaction());
        let (left, last) =
            second_tries(async |attempt| rig.ask("r.azurecr.io", attempt).await.map(drop)).await;
        assert_eq!(
            (left, last.unwrap().reason),
            (10, Reason::UpstreamMalformed),
            "{case}"
        );
    }
    let entra = [
        r#"{"error":"temporarily_unavailable"}"#,
        r#"{"error":"invalid_request","error_codes":[90006]}"#,
        r#"{"error":"invalid_request","error_codes":[90090]}"#,
    ];
    for body in entra {
        let rig = Rig::new(move |_| answer(400, body));
        let (left, last) =
            second_tries(async |attempt| rig.azure.entra_token(&federated(CLIENT), attempt).await.map(drop))
                .await;
        assert_eq!(
            (left, last.unwrap().reason),
            (10, Reason::EntraUnreachable),
            "{body}"
        );
    }
    for code in [403, 404, 410] {
        let rig = Rig::new(move |_| html(code));
        let source = TokenSource::BrokerOwned(identity("web"));
        let (left, last) =
            second_tries(async |attempt| rig.azure.entra_token(&source, attempt).await.map(drop)).await;
        let reason = Reason::IdentityEndpointUnreachable;
        assert_eq!((left, last.unwrap().reason), (10, reason), "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn u2_second_try_that_settles_the_matter_is_free() {
    // A refusal that stands is an answer: what failed before it was something else.
    let rig = Rig::new(|_| html(401));
    let (left, last) = second_tries(async |attempt| rig.ask("r.azurecr.io", attempt).await.map(drop)).await;
    assert_eq!((left, last.unwrap().reason), (200, Reason::RegistryUnauthorized));
    let rig = Rig::new(|sent| token(Duration::ZERO, &sent.host));
    let (left, last) = second_tries(async |attempt| rig.ask("r.azurecr.io", attempt).await.map(drop)).await;
    assert_eq!((left, last), (200, None));
}
