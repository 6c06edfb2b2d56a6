//! The forged-token matrix, against real signatures, with the answer remembered and not.

mod attribution;
mod lifetime;

use std::time::{Duration, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use runtime::clock::ManualClock;
use serde_json::{Value, json};

use super::{test_keys::Signer, *};
use crate::{
    access::{self, Role},
    config::{GrantModes, KeySource, Limits, Pattern, Workloads},
};

pub(super) const NOW: u64 = 1_795_000_000;
pub(super) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
pub(super) const SYNCER: &str = "system:serviceaccount:acrpull-system:acrpull-syncer";
pub(super) const CALLER_AUDIENCE: &str = "acrpull-broker";
pub(super) const SUBJECT_AUDIENCE: &str = "api://AzureCRTokenExchange";

pub(super) fn cluster(name: &str, signer: &Signer) -> Arc<Cluster> {
    let config = ClusterConfig {
        name: name.into(),
        issuer: ISSUER.into(),
        keys: KeySource::Fixed(signer.jwks()),
        caller_audiences: vec![CALLER_AUDIENCE.into()],
        subject_audiences: vec![SUBJECT_AUDIENCE.into()],
        max_token_lifetime: Duration::from_secs(86_400),
        syncers: vec![SYNCER.into()],
        operators: Vec::new(),
        client_certificates: Vec::new(),
        workloads: Workloads::default(),
        default_tenant: None,
        grant_modes: GrantModes::default(),
        tenant_ceiling: Vec::new(),
        registry_ceiling: Vec::new(),
        limits: Limits::default(),
    };
    Arc::new(Cluster {
        config,
        keys: KeyStore::with(signer.jwks()),
    })
}

pub(super) fn claims(audience: &str) -> Value {
    json!({"iss": ISSUER, "sub": SYNCER, "aud": [audience], "iat": NOW, "nbf": NOW, "exp": NOW + 600})
}

pub(super) fn with(mut claims: Value, field: &str, value: Value) -> Value {
    claims[field] = value;
    claims
}

pub(super) fn authenticator(clusters: Vec<Arc<Cluster>>) -> (Authenticator, ManualClock) {
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW + 1));
    (Authenticator::new(clusters, Arc::new(clock.clone())), clock)
}

#[test]
fn a2_key_selects_the_cluster_among_those_of_one_issuer() {
    let (first, second) = (Signer::new("a"), Signer::new("b"));
    let (authenticator, _) = authenticator(vec![cluster("first", &first), cluster("second", &second)]);
    for (signer, name) in [(&first, "first"), (&second, "second")] {
        let caller = authenticator
            .caller(&signer.sign(&claims(CALLER_AUDIENCE)))
            .unwrap();
        assert_eq!((&*caller.cluster.config.name, &*caller.subject), (name, SYNCER));
    }
}

#[test]
fn a1_forged_tokens_are_refused_cold_and_warm() {
    let (signer, stranger) = (Signer::new("a"), Signer::new("a"));
    let (authenticator, _) = authenticator(vec![cluster("first", &signer)]);
    let good = signer.sign(&claims(CALLER_AUDIENCE));
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let unsigned = format!(
        "{}.{}.",
        encode(&json!({"alg": "none", "kid": "a"})),
        encode(&claims(CALLER_AUDIENCE))
    );
    let confused = {
        let mut header = Header::new(Algorithm::HS256);
        header.kid = Some("a".into());
        let public = EncodingKey::from_secret(&signer.public_der);
        jsonwebtoken::encode(&header, &claims(CALLER_AUDIENCE), &public).unwrap()
    };
    let tampered = {
        let parts: Vec<&str> = good.split('.').collect();
        let other = encode(&with(claims(CALLER_AUDIENCE), "exp", json!(NOW + 9999)));
        format!("{}.{other}.{}", parts[0], parts[2])
    };
    let base = || claims(CALLER_AUDIENCE);
    let matrix = [
        (unsigned, TokenError::Malformed),
        (confused, TokenError::Malformed),
        (tampered, TokenError::Signature),
        (stranger.sign(&base()), TokenError::Signature),
        (
            signer.sign(&with(base(), "iss", json!("https://other.example"))),
            TokenError::UnknownIssuer,
        ),
        (signer.sign(&with(base(), "exp", json!(NOW))), TokenError::Expired),
        (
            signer.sign(&with(base(), "nbf", json!(NOW + 60))),
            TokenError::NotYetValid,
        ),
        (
            signer.sign(&with(base(), "aud", json!(["other"]))),
            TokenError::Audience,
        ),
        (signer.sign(&claims(SUBJECT_AUDIENCE)), TokenError::Audience),
        (
            signer.sign(&with(base(), "aud", json!([CALLER_AUDIENCE, SUBJECT_AUDIENCE]))),
            TokenError::Audience,
        ),
        (String::new(), TokenError::Malformed),
        ("a.b.c".into(), TokenError::Malformed),
        ("x".repeat(100_000), TokenError::Malformed),
    ];
    for round in ["cold", "warm"] {
        for (token, why) in &matrix {
            assert_eq!(
                authenticator.caller(token).unwrap_err(),
                AuthnError::Caller(*why),
                "{round}"
            );
        }
        authenticator.caller(&good).unwrap();
    }
}

#[test]
fn a1_token_without_a_key_id_is_only_tried_on_keys_without_one() {
    let (named, nameless) = (Signer::new("a"), Signer::nameless());
    let (authenticator, _) = authenticator(vec![cluster("named", &named), cluster("nameless", &nameless)]);
    let claims = claims(CALLER_AUDIENCE);
    authenticator.caller(&named.sign(&claims)).unwrap();
    assert_eq!(
        authenticator
            .caller(&named.sign_without_kid(&claims))
            .unwrap_err(),
        AuthnError::Caller(TokenError::Signature)
    );
    let caller = authenticator.caller(&nameless.sign(&claims)).unwrap();
    assert_eq!(&*caller.cluster.config.name, "nameless");
}

#[test]
fn a1_remembered_token_still_expires() {
    let signer = Signer::new("a");
    let (authenticator, clock) = authenticator(vec![cluster("first", &signer)]);
    let token = signer.sign(&claims(CALLER_AUDIENCE));
    authenticator.caller(&token).unwrap();
    clock.advance(Duration::from_secs(600));
    assert_eq!(
        authenticator.caller(&token).unwrap_err(),
        AuthnError::Caller(TokenError::Expired)
    );
}

#[test]
fn a1_signature_is_verified_anew_after_three_minutes_by_either_clock() {
    let signer = Signer::new("a");
    let (authenticator, clock) = authenticator(vec![cluster("first", &signer)]);
    let token = signer.sign(&with(claims(CALLER_AUDIENCE), "exp", json!(NOW + 86400)));
    let is_remembered = || {
        let known = authenticator.memory.recall(&memory::hash(&token), clock.moment());
        known.is_some()
    };
    authenticator.caller(&token).unwrap();
    clock.advance(memory::REMEMBERED_FOR / 2);
    authenticator.caller(&token).unwrap();
    assert!(is_remembered());
    clock.advance(memory::REMEMBERED_FOR / 2);
    assert!(!is_remembered(), "use does not prolong it");
    authenticator.caller(&token).unwrap();
    assert!(is_remembered());
    // The machine slept: only the time of day has gone on.
    clock.set(clock.now() + memory::REMEMBERED_FOR);
    assert!(!is_remembered());
    authenticator.caller(&token).unwrap();
    // Somebody sets the time of day back: the other clock has gone on.
    clock.advance(memory::REMEMBERED_FOR);
    clock.set(clock.now() - 2 * memory::REMEMBERED_FOR);
    assert!(!is_remembered());
}

#[test]
fn a1_signed_token_without_what_every_token_says_is_refused_for_that() {
    let signer = Signer::new("a");
    let (authenticator, _) = authenticator(vec![cluster("first", &signer)]);
    for missing in ["sub", "aud", "iat", "exp"] {
        let mut claims = claims(CALLER_AUDIENCE);
        claims.as_object_mut().unwrap().remove(missing);
        assert_eq!(
            authenticator.caller(&signer.sign(&claims)).unwrap_err(),
            AuthnError::Caller(TokenError::Claims),
            "{missing}"
        );
    }
}

#[test]
fn a6_remembered_token_of_a_key_that_is_gone_is_refused() {
    let (old, new) = (Signer::new("a"), Signer::new("b"));
    let cluster = cluster("first", &old);
    let (authenticator, _) = authenticator(vec![Arc::clone(&cluster)]);
    let token = old.sign(&claims(CALLER_AUDIENCE));
    authenticator.caller(&token).unwrap();
    assert!(cluster.keys.replace(new.jwks()));
    assert_eq!(
        authenticator.caller(&token).unwrap_err(),
        AuthnError::Caller(TokenError::Signature)
    );
}

#[test]
fn a5_roles_of_a_caller_are_those_of_its_own_cluster() {
    let (signer, other_signer) = (Signer::new("a"), Signer::new("b"));
    let operator = "system:serviceaccount:platform:operator";
    let mut first = cluster("first", &signer);
    Arc::get_mut(&mut first).unwrap().config.operators = vec![operator.into()];
    let (authenticator, _) = authenticator(vec![first, cluster("second", &other_signer)]);
    let roles = |signer: &Signer, sub: &str| {
        let token = signer.sign(&with(claims(CALLER_AUDIENCE), "sub", json!(sub)));
        let caller = authenticator.caller(&token).unwrap();
        [Role::Syncer, Role::Operator].map(|role| role.is_of(&caller))
    };
    assert_eq!(roles(&signer, SYNCER), [true, false]);
    assert_eq!(roles(&signer, operator), [false, true]);
    assert_eq!(roles(&signer, "system:serviceaccount:web:app"), [false, false]);
    // The same name in a cluster that does not list it is nobody.
    assert_eq!(roles(&other_signer, operator), [false, false]);
}

#[test]
fn a5_syncer_in_a_namespace_of_workloads_stays_a_syncer() {
    let signer = Signer::new("a");
    let mut first = cluster("first", &signer);
    Arc::get_mut(&mut first).unwrap().config.workloads = Workloads::of(vec![Pattern::new("acrpull-*")]);
    let (authenticator, _) = authenticator(vec![first]);
    let role = |sub: &str| {
        let token = signer.sign(&with(claims(CALLER_AUDIENCE), "sub", json!(sub)));
        let caller = authenticator.caller(&token).unwrap();
        access::check(&caller, &[Role::Syncer, Role::Workload]).ok()
    };
    assert_eq!(role(SYNCER), Some(Role::Syncer));
    assert_eq!(
        role("system:serviceaccount:acrpull-system:other"),
        Some(Role::Workload)
    );
    assert_eq!(role("system:serviceaccount:web:app"), None);
    assert_eq!(role("system:node:acrpull-1"), None);
}

#[test]
fn subject_is_of_the_callers_cluster_or_refused() {
    let (first, second) = (Signer::new("a"), Signer::new("b"));
    let (authenticator, _) = authenticator(vec![cluster("first", &first), cluster("second", &second)]);
    let caller = authenticator
        .caller(&first.sign(&claims(CALLER_AUDIENCE)))
        .unwrap();
    let of = |signer: &Signer, sub: &str| signer.sign(&with(claims(SUBJECT_AUDIENCE), "sub", json!(sub)));
    let subject = authenticator
        .subject(&of(&first, "system:serviceaccount:web:app"), &caller)
        .unwrap();
    assert_eq!((&*subject.namespace, &*subject.name), ("web", "app"));
    // The same namespace and name in a cluster with the same issuer is somebody else.
    assert_eq!(
        authenticator
            .subject(&of(&second, "system:serviceaccount:web:app"), &caller)
            .unwrap_err(),
        AuthnError::Subject(TokenError::OtherCluster)
    );
    assert_eq!(
        authenticator
            .subject(&of(&first, "system:node:n1"), &caller)
            .unwrap_err(),
        AuthnError::Subject(TokenError::NotAServiceAccount)
    );
    // A caller's token is no subject token.
    assert_eq!(
        authenticator
            .subject(&first.sign(&claims(CALLER_AUDIENCE)), &caller)
            .unwrap_err(),
        AuthnError::Subject(TokenError::Audience)
    );
}

#[test]
fn a7_unknown_key_id_asks_for_fresh_keys_once_a_minute() {
    let (signer, stranger) = (Signer::new("a"), Signer::new("z"));
    let cluster = cluster("first", &signer);
    // Somebody fetches for it.
    cluster.keys.tried(Duration::ZERO);
    let (authenticator, clock) = authenticator(vec![Arc::clone(&cluster)]);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let wanted = || {
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_millis(10), cluster.keys.refetch_wanted())
                .await
                .is_ok()
        })
    };
    for expected in [true, false, false] {
        assert!(
            authenticator
                .caller(&stranger.sign(&claims(CALLER_AUDIENCE)))
                .is_err()
        );
        assert_eq!(wanted(), expected);
    }
    clock.advance(Duration::from_secs(60));
    assert!(
        authenticator
            .caller(&stranger.sign(&claims(CALLER_AUDIENCE)))
            .is_err()
    );
    assert!(wanted());
}

#[test]
fn subject_has_the_audiences_of_its_token_that_the_cluster_accepts_in_their_order() {
    let signer = Signer::new("a");
    let mut config = cluster("first", &signer);
    let accepted = &mut Arc::get_mut(&mut config).unwrap().config.subject_audiences;
    accepted.push("api://AzureADTokenExchange".to_owned());
    let (authenticator, _) = authenticator(vec![config]);
    let caller = authenticator
        .caller(&signer.sign(&claims(CALLER_AUDIENCE)))
        .unwrap();
    let (one, other) = (SUBJECT_AUDIENCE, "api://AzureADTokenExchange");
    for (presented, kept) in [
        (json!(one), vec![one]),
        (json!([one]), vec![one]),
        (json!([other]), vec![other]),
        (json!([other, "unknown", one, other]), vec![one, other]),
    ] {
        let token = signer.sign(&with(claims(SUBJECT_AUDIENCE), "aud", presented));
        assert_eq!(*authenticator.subject(&token, &caller).unwrap().audiences, *kept);
    }
}

#[test]
fn a1_forged_token_is_refused_for_good_though_another_cluster_of_its_issuer_has_no_keys() {
    let (signer, forger, stranger) = (Signer::new("a"), Signer::new("a"), Signer::new("z"));
    let mut keyless = cluster("keyless", &stranger);
    Arc::get_mut(&mut keyless).unwrap().keys = KeyStore::default();
    let (authenticator, _) = authenticator(vec![keyless, cluster("first", &signer)]);
    let claims = claims(CALLER_AUDIENCE);
    let refusal = |token: &str| authenticator.caller(token).unwrap_err();
    authenticator.caller(&signer.sign(&claims)).unwrap();
    assert_eq!(
        refusal(&forger.sign(&claims)),
        AuthnError::Caller(TokenError::Signature)
    );
    // These may be of the cluster whose keys are not known.
    for token in [stranger.sign(&claims), signer.sign_without_kid(&claims)] {
        assert_eq!(refusal(&token), AuthnError::Caller(TokenError::KeysUnavailable));
    }
}
