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

/// The ServiceAccount whose identity is asked for.
pub(super) const ACCOUNT: &str = "system:serviceaccount:web:app";

const UNAUTHENTICATED: &str = "CALLER_UNAUTHENTICATED";
const NOT_REGISTERED: &str = "CLUSTER_NOT_REGISTERED";
const NOT_PERMITTED: &str = "CALLER_NOT_PERMITTED";
const NOT_READ: &str = "SUBJECT_TOKEN_REJECTED";

/// One forgery.
pub(super) struct Forged {
    pub(super) what: &'static str,
    /// All `authorization` headers of the request, or the one subject token in it.
    pub(super) tokens: Vec<String>,
    pub(super) reason: &'static str,
}

/// What is wrong with a token whatever it is presented for: what, the token, and whether its signature and issuer are at
/// least those of a known cluster.
fn wrong(good: &Value) -> Vec<(&'static str, String, bool)> {
    let (east, west) = (signer("east"), signer("west"));
    let stranger = Signer::new("stranger");
    let impostor = Signer::new("east-1");
    let signed = east.sign(good);
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
    let header = |change: &dyn Fn(&mut Header)| {
        let mut header = east.header(Algorithm::RS256);
        change(&mut header);
        header
    };
    let published: JwkSet = serde_json::from_str(&impostor.jwks_text()).unwrap();
    let brings_its_key = Header {
        jwk: published.keys.first().cloned(),
        jku: Some("https://evil.example/keys".into()),
        ..impostor.header(Algorithm::RS256)
    };
    let mut critical = header(&|_same| {});
    critical.crit = Some(vec!["b64".into()]);
    vec![
        ("signature backwards", backwards(&signed), false),
        (
            "claims of another token",
            spliced(&signed, &with("exp", json!(NOW + 9999))),
            false,
        ),
        (
            "no signature",
            signed.rsplit_once('.').unwrap().0.to_owned() + ".",
            false,
        ),
        ("alg none", unsigned(good, "none"), true),
        ("alg nOnE", unsigned(good, "nOnE"), true),
        (
            "HS256 with the public key (DER)",
            hmac(good, &east.public_der),
            true,
        ),
        (
            "HS256 with the public key (JWKS)",
            hmac(good, east.jwks_text().as_bytes()),
            true,
        ),
        ("ES256 under the id of an RSA key", elliptic(good), false),
        (
            "RS512 by the right key",
            east.sign_as(&east.header(Algorithm::RS512), good),
            true,
        ),
        (
            "PS256 by the right key",
            east.sign_as(&east.header(Algorithm::PS256), good),
            true,
        ),
        (
            "wrong iss",
            with("iss", json!("https://elsewhere.example")),
            false,
        ),
        ("no iss", without("iss"), true),
        ("wrong aud", with("aud", json!(["vault"])), true),
        ("no aud", without("aud"), true),
        ("empty aud", with("aud", json!([])), true),
        (
            "both audiences",
            with("aud", json!([CALLER_AUDIENCE, SUBJECT_AUDIENCE])),
            true,
        ),
        ("no sub", without("sub"), true),
        ("no exp", without("exp"), true),
        ("exp as text", with("exp", json!((NOW + 600).to_string())), true),
        ("exp beyond time", with("exp", json!(u64::MAX)), true),
        ("expired", with("exp", json!(NOW)), true),
        ("not valid before 31 s", with("nbf", json!(NOW + 31)), true),
        ("unknown kid", stranger.sign(good), false),
        ("known kid, unknown key", impostor.sign(good), false),
        (
            "kid of another cluster's key",
            east.sign_as(&west.header(Algorithm::RS256), good),
            false,
        ),
        ("no kid", east.sign_without_kid(good), false),
        (
            "brings a key of its own",
            impostor.sign_as(&brings_its_key, good),
            false,
        ),
        ("a critical extension", east.sign_as(&critical, good), true),
        ("oversized", with("padding", json!("x".repeat(20_000))), true),
        ("garbage", "nonsense".to_owned(), true),
        ("three empty parts", "..".to_owned(), true),
        ("five parts", format!("{signed}.{signed}"), true),
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
    let known = |is_known| if is_known { UNAUTHENTICATED } else { NOT_REGISTERED };
    let mut all: Vec<Forged> = wrong(&claims(SYNCER, CALLER_AUDIENCE))
        .into_iter()
        .map(|(what, token, is_known)| of(what, token, known(is_known)))
        .collect();
    all.extend([
        of("subject token", subject_token("east", SYNCER), UNAUTHENTICATED),
        of("another ServiceAccount", token(NOBODY), NOT_PERMITTED),
        of("operator", token(OPERATOR), NOT_PERMITTED),
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

/// Forged subject tokens, and good ones of others.
pub(super) fn subjects() -> Vec<Forged> {
    let of = |what, token: String| Forged {
        what,
        tokens: vec![token],
        reason: NOT_READ,
    };
    let mut all: Vec<Forged> = wrong(&claims(ACCOUNT, SUBJECT_AUDIENCE))
        .into_iter()
        .map(|(what, token, _is_known)| of(what, token))
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

fn backwards(token: &str) -> String {
    let (signed, signature) = token.rsplit_once('.').unwrap();
    format!("{signed}.{}", signature.chars().rev().collect::<String>())
}

/// Header and signature of one, claims of the other.
fn spliced(token: &str, other: &str) -> String {
    let [ours, theirs] = [token, other].map(|token| token.split('.').collect::<Vec<_>>());
    format!("{}.{}.{}", ours[0], theirs[1], ours[2])
}
