//! How long a token may live: whoever is deleted in its cluster goes on for as long.

use super::*;

/// A cluster whose tokens may live for `seconds`.
fn allowing(seconds: u64, signer: &Signer) -> Arc<Cluster> {
    let mut cluster = cluster("first", signer);
    let config = &mut Arc::get_mut(&mut cluster).unwrap().config;
    config.max_token_lifetime = Duration::from_secs(seconds);
    cluster
}

/// Issued and expiring so many seconds from [`NOW`].
fn issued(audience: &str, from: i64, to: i64) -> Value {
    let at = |seconds: i64| json!(NOW.checked_add_signed(seconds).unwrap());
    let claims = with(claims(audience), "iat", at(from));
    let claims = with(claims, "nbf", at(from));
    with(claims, "exp", at(to))
}

#[test]
fn a6_token_that_was_issued_for_longer_than_its_cluster_allows_is_refused() {
    let signer = Signer::new("a");
    let (authenticator, _) = authenticator(vec![allowing(3660, &signer)]);
    let caller = authenticator
        .caller(&signer.sign(&claims(CALLER_AUDIENCE)))
        .unwrap();
    let day = 86_400;
    for (from, to, refused_for) in [
        (0, 600, None),
        (0, 3600, None),
        (0, 3607, None),
        (0, 3660, None),
        (0, 3661, Some(3661)),
        (0, 365 * day, Some(31_536_000)),
        // What counts is how long it was issued for, not how much of that is left.
        (-365 * day, 60, Some(31_536_060)),
        // Issued by a clock that is ahead.
        (30, 30 + 3660, None),
    ] {
        // Cold, and remembered.
        for _ in 0..2 {
            let bearer = signer.sign(&issued(CALLER_AUDIENCE, from, to));
            let expected = refused_for.map(|seconds| TokenError::LivesTooLong { seconds, most: 3660 });
            let answer = authenticator.caller(&bearer).err();
            assert_eq!(answer, expected.map(AuthnError::Caller), "{from} to {to}");
            let subject = with(
                issued(SUBJECT_AUDIENCE, from, to),
                "sub",
                json!("system:serviceaccount:web:app"),
            );
            let answer = authenticator.subject(&signer.sign(&subject), &caller).err();
            assert_eq!(answer, expected.map(AuthnError::Subject), "{from} to {to}");
        }
    }
}

#[test]
fn a6_token_that_says_to_be_issued_in_the_future_is_measured_from_now() {
    let signer = Signer::new("a");
    let (authenticator, clock) = authenticator(vec![allowing(3660, &signer)]);
    let mut claims = issued(CALLER_AUDIENCE, 364 * 86_400, 365 * 86_400 - 82_800);
    claims["nbf"] = json!(NOW);
    let token = signer.sign(&claims);
    let most = 3660;
    // By 30 s the clocks may differ, and it is one second past NOW.
    let seconds = 364 * 86_400 + 3600 - 31;
    assert_eq!(
        authenticator.caller(&token).unwrap_err(),
        AuthnError::Caller(TokenError::LivesTooLong { seconds, most })
    );
    clock.advance(Duration::from_secs(364 * 86_400));
    assert!(authenticator.caller(&token).is_ok());
}

#[test]
fn a6_refusal_of_a_token_that_lives_too_long_names_the_remedy() {
    let error = TokenError::LivesTooLong {
        seconds: 31_536_000,
        most: 3660,
    };
    let text = AuthnError::Caller(error).to_string();
    for part in [
        "31536000 s",
        "3660 s",
        "maxTokenLifetimeSeconds",
        "expirationSeconds",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
