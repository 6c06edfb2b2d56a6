//! Bearer and subject tokens, and the documents with the keys that verify them.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use broker::{
    access::{self, Role},
    authn::{Authenticator, Cluster, KeySet, KeyStore},
    config::{ClusterConfig, DEFAULT_TOKEN_LIFETIME, GrantModes, KeySource, Limits, Workloads},
};
use hostile::{document, fuzz, text};
use runtime::clock::ManualClock;
use serde_json::Value;

use crate::signer::{KEY_ID, Signer};

const NOW: u64 = 1_795_000_000;
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const SYNCER: &str = "system:serviceaccount:acrpull-system:acrpull-syncer";
const CALLER_AUDIENCE: &str = "acrpull-broker";
const SUBJECT_AUDIENCE: &str = "api://AzureCRTokenExchange";
/// How far ahead `nbf` may be, for clocks that differ.
const SKEW: u64 = 30;

const HEADERS: [&str; 2] = [
    r#"{"alg":"ES256","kid":"k1","typ":"JWT"}"#,
    r#"{"alg":"none","kid":"k1","jku":"https://evil.example/keys","crit":["b64"],"b64":false}"#,
];
/// A good one, one for both audiences, and those at the edge of their time.
const CLAIMS: [&str; 4] = [
    r#"{"iss":"https://kubernetes.default.svc.cluster.local","sub":"system:serviceaccount:acrpull-system:acrpull-syncer",
        "aud":["acrpull-broker"],"iat":1795000000,"nbf":1795000000,"exp":1795000600}"#,
    r#"{"iss":"https://kubernetes.default.svc.cluster.local","sub":"system:serviceaccount:shop:web",
        "aud":["api://AzureCRTokenExchange","acrpull-broker"],"iat":1795000000,"exp":1795000600,"nbf":1795000000}"#,
    r#"{"iss":"https://kubernetes.default.svc.cluster.local","sub":"system:serviceaccount:acrpull-system:acrpull-syncer",
        "aud":["acrpull-broker"],"iat":1794999400,"exp":1795000000}"#,
    r#"{"iss":"https://kubernetes.default.svc.cluster.local","sub":"system:serviceaccount:acrpull-system:acrpull-syncer",
        "aud":"acrpull-broker","iat":1794996940,"nbf":1795000031,"exp":1795000600}"#,
];
const JWKS: [&str; 2] = [
    r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","use":"sig","alg":"ES256","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#,
    r#"{"keys":[{"kty":"RSA","kid":"2","n":"sXchDaQebHnPiGvyDOAT4saGEUetSyo9MKLOoWFsueri23bOdgWp4Dy1WlUzewbgBHod5pcM9H95GQRV3JDXbw","e":"AQAB"},{"kty":"oct","k":"c2VjcmV0"},{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}]}"#,
];

struct Rig {
    signer: Signer,
    authenticator: Authenticator,
}

fn rig() -> Rig {
    let signer = Signer::new();
    let config = ClusterConfig {
        name: "weu-7".into(),
        issuer: ISSUER.into(),
        keys: KeySource::Fixed(signer.keys()),
        caller_audiences: vec![CALLER_AUDIENCE.into()],
        subject_audiences: vec![SUBJECT_AUDIENCE.into()],
        max_token_lifetime: DEFAULT_TOKEN_LIFETIME,
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
    let keys = KeyStore::with(signer.keys());
    let cluster = Arc::new(Cluster { config, keys });
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(NOW));
    Rig {
        authenticator: Authenticator::new(vec![cluster], Arc::new(clock)),
        signer,
    }
}

/// The rules of guarantee A1 once more, over plain JSON.
fn is_good(header: &str, claims: &str, audience: &str, other_audience: &str) -> bool {
    let (Ok(header), Ok(claims)) = (serde_json::from_str(header), serde_json::from_str(claims)) else {
        // Nested deeper than this reference reads, in a claim that nobody reads.
        return true;
    };
    let (header, claims): (Value, Value) = (header, claims);
    let audiences = claims["aud"]
        .as_array()
        .cloned()
        .unwrap_or_else(|| vec![claims["aud"].clone()]);
    header["alg"] == "ES256"
        && header["kid"] == KEY_ID
        && claims["iss"] == ISSUER
        && audiences.contains(&audience.into())
        && !audiences.contains(&other_audience.into())
        && claims["exp"].as_u64().is_some_and(|at| at > NOW)
        && (claims["iat"].as_u64().zip(claims["exp"].as_u64())).is_some_and(|(from, to)| {
            to.saturating_sub(from.min(NOW + SKEW)) <= DEFAULT_TOKEN_LIFETIME.as_secs()
        })
        && claims
            .get("nbf")
            .is_none_or(|at| at.is_null() || at.as_u64().is_some_and(|at| at <= NOW + SKEW))
}

#[test]
fn fuzz_bearer_a1_is_accepted_only_as_it_was_signed() {
    let rig = rig();
    let good = rig.signer.sign(HEADERS[0], CLAIMS[0]);
    assert!(
        rig.authenticator.caller(&good).is_ok(),
        "the seed is a good token"
    );
    let parts: Vec<&str> = good.split('.').collect();
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    let swapped = format!("{}.{}.{}", parts[1], parts[0], parts[2]);
    fuzz(text(&[&good, &unsigned, &swapped]), |token| {
        match rig.authenticator.caller(&token) {
            Ok(caller) => {
                assert_eq!(token, good);
                assert_eq!(&*caller.subject, SYNCER);
            }
            Err(error) => assert!(token.len() < 16 || !error.to_string().contains(&token), "{error}"),
        }
    });
}

/// Signed by the right key, and still wrong.
#[test]
fn fuzz_claims_a1_are_accepted_only_when_every_rule_holds() {
    let rig = rig();
    fuzz((document(&HEADERS), document(&CLAIMS)), |(header, claims)| {
        let token = rig.signer.sign(&header, &claims);
        if let Ok(caller) = rig.authenticator.caller(&token) {
            assert!(is_good(&header, &claims, CALLER_AUDIENCE, SUBJECT_AUDIENCE));
            // Who it is, is one thing; what that one may do is another.
            let is_admitted = access::check(&caller, &[Role::Syncer]).is_ok();
            assert_eq!(is_admitted, &*caller.subject == SYNCER);
        }
        let good = rig.signer.sign(HEADERS[0], CLAIMS[0]);
        let caller = rig.authenticator.caller(&good).unwrap();
        if let Ok(subject) = rig.authenticator.subject(&token, &caller) {
            assert!(is_good(&header, &claims, SUBJECT_AUDIENCE, CALLER_AUDIENCE));
            let rebuilt = format!("system:serviceaccount:{}:{}", subject.namespace, subject.name);
            assert_eq!(*subject.subject, rebuilt);
        }
    });
}

#[test]
fn fuzz_jwks_holds_few_keys_and_its_refusal_says_little() {
    fuzz(document(&JWKS), |json| match KeySet::parse(json.as_bytes()) {
        Ok(keys) => {
            let thumbprints: Vec<Vec<u8>> = keys.thumbprints().collect();
            assert!((1..=16).contains(&thumbprints.len()));
            assert!(thumbprints.iter().all(|thumbprint| thumbprint.len() == 32));
        }
        // The document is foreign, and by mistake it may hold private keys: a log says where it is wrong, not what it says.
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.len() < 200 && text.chars().all(|c| c.is_ascii_graphic() || c == ' '),
                "{text:?}"
            );
        }
    });
}
