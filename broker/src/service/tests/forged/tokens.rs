//! Tokens that must not be accepted, each with what is said about it.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header, jwk::JwkSet};
use rcgen::KeyPair;
use serde_json::{Value, json};

use crate::{
    authn::test_keys::Signer,
    test_scene::{
        CALLER_AUDIENCE, NOBODY, NOW, OPERATOR, SUBJECT_AUDIENCE, SYNCER, claims, signer, subject_token,
        token,
    },
};

use Seems::{Nobodys, Strange};

/// The ServiceAccount whose identity is asked for.
pub(super) const ACCOUNT: &str = "system:serviceaccount:web:app";

const UNAUTHENTICATED: &str = "CALLER_UNAUTHENTICATED";
const NOT_REGISTERED: &str = "CLUSTER_NOT_REGISTERED";
const NOT_PERMITTED: &str = "CALLER_NOT_PERMITTED";
const NOT_READ: &str = "SUBJECT_TOKEN_REJECTED";

/// A good token that explains, and gets nothing.
pub(super) const OPERATORS_OWN: &str = "operator";

/// One forgery.
pub(super) struct Forged {
    pub(super) what: &'static str,
    /// All `authorization` headers of the request, or the one subject token in it.
    pub(super) tokens: Vec<String>,
    pub(super) reason: &'static str,
}

/// As whose a caller's token is refused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seems {
    /// Nobody's: no cluster vouches for it, or it is no token.
    Nobodys,
    /// That of no configured cluster.
    Strange,
}

/// What is wrong with a token whatever it is presented for.
fn wrong(good: &Value) -> Vec<(&'static str, String, Seems)> {
    [signatures(good), statements(good), shapes(good)].concat()
}

/// Good claims under a bad signature.
fn signatures(good: &Value) -> Vec<(&'static str, String, Seems)> {
    let (east, west) = (signer("east"), signer("west"));
    let (stranger, impostor) = (Signer::new("stranger"), Signer::new("east-1"));
    let signed = east.sign(good);
    let mut other = good.clone();
    other["exp"] = json!(NOW + 9999);
    let published: JwkSet = serde_json::from_str(&impostor.jwks_text()).unwrap();
    let brings_its_key = Header {
        jwk: published.keys.first().cloned(),
        jku: Some("https://evil.example/keys".into()),
        ..impostor.header(Algorithm::RS256)
    };
    let der = hmac(good, &east.public_der);
    let jwks = hmac(good, east.jwks_text().as_bytes());
    let as_west = east.sign_as(&west.header(Algorithm::RS256), good);
    let itself = impostor.sign_as(&brings_its_key, good);
    let [rs512, ps256] =
        [Algorithm::RS512, Algorithm::PS256].map(|algorithm| east.sign_as(&east.header(algorithm), good));
    vec![
        ("signature backwards", backwards(&signed), Strange),
        (
            "claims of another token",
            spliced(&signed, &east.sign(&other)),
            Strange,
        ),
        ("no signature", without_signature(&signed), Strange),
        ("alg none", unsigned(good, "none"), Nobodys),
        ("alg nOnE", unsigned(good, "nOnE"), Nobodys),
        ("HS256 with the public key (DER)", der, Nobodys),
        ("HS256 with the public key (JWKS)", jwks, Nobodys),
        ("ES256 under the id of an RSA key", elliptic(good), Strange),
        ("RS512 by the right key", rs512, Nobodys),
        ("PS256 by the right key", ps256, Nobodys),
        ("unknown kid", stranger.sign(good), Strange),
        ("known kid, unknown key", impostor.sign(good), Strange),
        ("kid of another cluster's key", as_west, Strange),
        ("no kid", east.sign_without_kid(good), Strange),
        ("brings a key of its own", itself, Strange),
    ]
}

/// Bad claims under a good signature.
fn statements(good: &Value) -> Vec<(&'static str, String, Seems)> {
    let east = signer("east");
    let with = |field: &str, value: Value| {
        let mut claims = good.clone();
        claims[field] = value;
        east.sign(&claims)
    };
    let without = |field: &str| {
        let mut claims = good.clone();
        claims.as_object_mut().unwrap().remove(field);
        east.sign(&claims)
    };
    let elsewhere = with("iss", json!("https://elsewhere.example"));
    let both = with("aud", json!([CALLER_AUDIENCE, SUBJECT_AUDIENCE]));
    vec![
        ("wrong iss", elsewhere, Strange),
        ("no iss", without("iss"), Nobodys),
        ("wrong aud", with("aud", json!(["vault"])), Nobodys),
        ("no aud", without("aud"), Nobodys),
        ("empty aud", with("aud", json!([])), Nobodys),
        ("both audiences", both, Nobodys),
        ("no sub", without("sub"), Nobodys),
        ("no exp", without("exp"), Nobodys),
        ("exp as text", with("exp", json!("1795000600")), Nobodys),
        ("exp beyond time", with("exp", json!(u64::MAX)), Nobodys),
        ("expired", with("exp", json!(NOW)), Nobodys),
        ("issued for a year", with("exp", json!(NOW + 31_536_000)), Nobodys),
        ("issued a year ago", with("iat", json!(NOW - 31_536_000)), Nobodys),
        ("no iat", without("iat"), Nobodys),
        ("not valid before 31 s", with("nbf", json!(NOW + 31)), Nobodys),
        ("oversized", with("padding", json!("x".repeat(20_000))), Nobodys),
    ]
}

/// What is not the token that it should be at all.
fn shapes(good: &Value) -> Vec<(&'static str, String, Seems)> {
    let east = signer("east");
    let signed = east.sign(good);
    let critical = Header {
        crit: Some(vec!["b64".into()]),
        ..east.header(Algorithm::RS256)
    };
    vec![
        ("a critical extension", east.sign_as(&critical, good), Nobodys),
        ("garbage", "nonsense".to_owned(), Nobodys),
        ("three empty parts", "..".to_owned(), Nobodys),
        ("five parts", format!("{signed}.{signed}"), Nobodys),
    ]
}

/// Forged callers, and good ones of others. `elsewhere` is what the syncer of another cluster is told.
pub(super) fn bearers(elsewhere: &'static str) -> Vec<Forged> {
    let of = |what, token: String, reason| Forged {
        what,
        tokens: vec![format!("Bearer {token}")],
        reason,
    };
    let raw = |what, tokens: &[&str]| Forged {
        what,
        tokens: tokens.iter().map(|text| (*text).to_owned()).collect(),
        reason: UNAUTHENTICATED,
    };
    let good = format!("Bearer {}", token(SYNCER));
    let said = |seems| match seems {
        Nobodys => UNAUTHENTICATED,
        Strange => NOT_REGISTERED,
    };
    let mut all: Vec<Forged> = wrong(&claims(SYNCER, CALLER_AUDIENCE))
        .into_iter()
        .map(|(what, token, seems)| of(what, token, said(seems)))
        .collect();
    all.extend([
        of("subject token", subject_token("east", SYNCER), UNAUTHENTICATED),
        of("another ServiceAccount", token(NOBODY), NOT_PERMITTED),
        of(OPERATORS_OWN, token(OPERATOR), NOT_PERMITTED),
        of("no ServiceAccount", token("admin"), NOT_PERMITTED),
        of(
            "the same name in another cluster of the issuer",
            signer("west").sign(&claims(SYNCER, CALLER_AUDIENCE)),
            elsewhere,
        ),
        raw("no header", &[]),
        raw("no token", &["Bearer "]),
        raw("no scheme", &[&token(SYNCER)]),
        raw("another scheme", &[&good.replace("Bearer", "Basic")]),
        raw("two good headers", &[&good, &good]),
        raw("a good header and another", &[&good, "Bearer nonsense"]),
        raw("another header and a good one", &["Basic eDp5", &good]),
    ]);
    all
}

/// Forged operators, and good callers who are none.
pub(super) fn operators() -> Vec<Forged> {
    let of = |what, token: String, reason| Forged {
        what,
        tokens: vec![format!("Bearer {token}")],
        reason,
    };
    let good = claims(OPERATOR, CALLER_AUDIENCE);
    let mut all: Vec<Forged> = wrong(&good)
        .into_iter()
        .map(|(what, token, seems)| match seems {
            Nobodys => of(what, token, UNAUTHENTICATED),
            Strange => of(what, token, NOT_REGISTERED),
        })
        .collect();
    all.extend([
        of("subject token", subject_token("east", OPERATOR), UNAUTHENTICATED),
        of("the syncer", token(SYNCER), NOT_PERMITTED),
        of("another ServiceAccount", token(NOBODY), NOT_PERMITTED),
        of(
            "the same name in another cluster of the issuer",
            signer("west").sign(&good),
            NOT_PERMITTED,
        ),
    ]);
    all
}

/// Forged subject tokens, and good ones of others.
pub(super) fn subjects() -> Vec<Forged> {
    let of = |what, token: String| Forged {
        what,
        tokens: vec![token],
        reason: NOT_READ,
    };
    let mut all: Vec<Forged> = wrong(&claims(ACCOUNT, SUBJECT_AUDIENCE))
        .into_iter()
        .map(|(what, token, _seems)| of(what, token))
        .collect();
    all.extend([
        of("the bearer token", token(SYNCER)),
        of("a bearer token of the ServiceAccount", token(ACCOUNT)),
        of(
            "the same name in another cluster of the issuer",
            subject_token("west", ACCOUNT),
        ),
        of(
            "another namespace",
            subject_token("east", "system:serviceaccount:data:app"),
        ),
        of("no ServiceAccount", subject_token("east", "admin")),
        of(
            "a ServiceAccount and more",
            subject_token("east", &format!("{ACCOUNT}:x")),
        ),
    ]);
    all
}

fn part(value: &Value) -> String {
    URL_SAFE_NO_PAD.encode(value.to_string())
}

fn unsigned(claims: &Value, algorithm: &str) -> String {
    format!(
        "{}.{}.",
        part(&json!({"alg": algorithm, "kid": "east-1"})),
        part(claims)
    )
}

/// What a verifier that believes the header would accept: the public key as the secret of an HMAC.
fn hmac(claims: &Value, secret: &[u8]) -> String {
    let header = signer("east").header(Algorithm::HS256);
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn elliptic(claims: &Value) -> String {
    let key = EncodingKey::from_ec_pem(KeyPair::generate().unwrap().serialize_pem().as_bytes()).unwrap();
    jsonwebtoken::encode(&signer("east").header(Algorithm::ES256), claims, &key).unwrap()
}

fn without_signature(token: &str) -> String {
    format!("{}.", token.rsplit_once('.').unwrap().0)
}

fn backwards(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", signature.chars().rev().collect::<String>())
}

/// Header and signature of one, claims of the other.
fn spliced(token: &str, other: &str) -> String {
    let [ours, theirs] = [token, other].map(|token| token.split('.').collect::<Vec<_>>());
    format!("{}.{}.{}", ours[0], theirs[1], ours[2])
}
