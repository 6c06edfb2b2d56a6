//! The form of a record, to the letter: whoever searches the log relies on it.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use proto::{Fingerprint, types::ScopeSet};
use runtime::Secret;

use super::*;
use crate::{
    authn::{Cluster, Evidence, KeySet, KeyStore},
    config::{ClusterConfig, DEFAULT_TOKEN_LIFETIME, GrantModes, KeySource, Limits, Workloads},
    error::CredentialError,
    request::{CloudReference, Wish},
};

/// The key of RFC 7517 appendix A.1.
const KEYS: &str = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"1","x":"MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4","y":"4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"}]}"#;
const ID: &str = "33333333-3333-3333-3333-000000000001";

fn caller() -> Caller {
    let keys = KeySet::parse(KEYS.as_bytes()).unwrap();
    let config = ClusterConfig {
        name: "weu-7".into(),
        issuer: "https://issuer.example".into(),
        keys: KeySource::Fixed(keys),
        caller_audiences: Vec::new(),
        subject_audiences: Vec::new(),
        max_token_lifetime: DEFAULT_TOKEN_LIFETIME,
        syncers: Vec::new(),
        operators: Vec::new(),
        default_tenant: None,
        grant_modes: GrantModes::default(),
        tenant_ceiling: Vec::new(),
        registry_ceiling: Vec::new(),
        client_certificates: Vec::new(),
        workloads: Workloads::default(),
        limits: Limits::default(),
    };
    Caller {
        cluster: Arc::new(Cluster {
            config,
            keys: KeyStore::default(),
        }),
        subject: "system:serviceaccount:acrpull-system:acrpull-syncer".into(),
        evidence: Arc::new(Evidence {
            key_id: Some("1".to_owned()),
            key_thumbprint: "Nz".repeat(20),
            token_id: Some("b7c0ffee".to_owned()),
        }),
    }
}

fn request(identity: RequestedIdentity) -> DockerConfigRequest {
    DockerConfigRequest {
        namespace: "web".to_owned(),
        binding: "prod".to_owned(),
        binding_uid: "6a8f".to_owned(),
        service_accounts: vec!["app".to_owned(), "job".to_owned()],
        registry: "prod.azurecr.io".parse().unwrap(),
        scopes: ScopeSet::from_field("repository:team/web:pull").unwrap(),
        cloud: CloudReference::default(),
        identity,
        wish: Wish::default(),
    }
}

fn ended(outcome: Outcome) -> Ended<'static> {
    Ended {
        id: "00c0ffee00c0ffee-7".to_owned(),
        wire: WireFormat::Grpc,
        call: Call::GetDockerConfig,
        outcome,
        at: UNIX_EPOCH + Duration::from_secs(1_795_000_000),
        took: Duration::from_micros(412),
        caller_token: None,
        fingerprint_key: "1a2b3c4d",
    }
}

fn text(ended: &Ended<'_>, facts: &Facts) -> String {
    String::from_utf8(line(ended, facts)).unwrap()
}

#[test]
fn o1_record_of_a_credential_is_letter_by_letter_this() {
    let facts = Facts {
        address: Some("10.1.2.3:40000".parse().unwrap()),
        role: Some(Role::Syncer),
        trace_id: Some("4bf92f3577b34da6a3ce929d0e0e4736".to_owned()),
        caller: Some(caller()),
        request: Some(Arc::new(request(RequestedIdentity::BrokerOwned(
            IdentitySelector::ClientId(ID.parse().unwrap()),
        )))),
        identity: Some("team-web".into()),
        permission: Some(Permission::Grant("web".into())),
        credential: Some(Handed {
            token_fingerprint: Some("ab".repeat(16)),
            payload_fingerprint: Fingerprint::of(b"abc"),
            expires_at: UNIX_EPOCH + Duration::from_secs(1_795_004_500),
            granted: ScopeSet::from_field("repository:team/web:pull").unwrap(),
            degraded: true,
        }),
        ..Facts::default()
    };
    let expected = concat!(
        r#"{"audit":"acrpull.dev/v1","event":"decision","time":"2026-11-18T11:06:40.000Z","call":"00c0ffee00c0ffee-7","#,
        r#""trace_id":"4bf92f3577b34da6a3ce929d0e0e4736","wire":"grpc","method":"get_docker_config","#,
        r#""peer":"10.1.2.3:40000","caller":{"cluster":"weu-7","#,
        r#""subject":"system:serviceaccount:acrpull-system:acrpull-syncer","role":"syncer","key_id":"1","#,
        r#""key_thumbprint":"NzNzNzNzNzNzNzNzNzNzNzNzNzNzNzNzNzNzNzNz","#,
        r#""token_id":"b7c0ffee"},"request":{"namespace":"web","binding":"prod","binding_uid":"6a8f","#,
        r#""service_accounts":["app","job"],"identity":{"kind":"broker_owned","#,
        r#""name":"team-web","client_id":"33333333-3333-3333-3333-000000000001"},"registry":"prod.azurecr.io","#,
        r#""scopes":["repository:team/web:pull"]},"decision":"allow","policy":"grant","grant":"web","#,
        r#""outcome":"issued","credential":{"token_fingerprint":"abababababababababababababababab","#,
        r#""payload_fingerprint":"ba7816bf8f01cfea414140de5dae2223","expires":"2026-11-18T12:21:40.000Z","#,
        r#""scopes":["repository:team/web:pull"],"degraded":true},"fingerprint_key":"1a2b3c4d","duration_us":412}"#,
        "\n"
    );
    assert_eq!(text(&ended(Outcome::Issued), &facts), expected);
}

#[test]
fn o1_record_of_a_failure_says_what_azure_calls_it_and_hands_out_nothing() {
    let secret = Secret::from("canary-of-a-subject-token".to_owned());
    let facts = Facts {
        caller: Some(caller()),
        request: Some(Arc::new(request(RequestedIdentity::Federated {
            tenant: None,
            client: ID.parse().unwrap(),
            subject_token: secret,
        }))),
        subject: Some("system:serviceaccount:web:app".into()),
        permission: Some(Permission::NotNeeded),
        credential: Some(Handed {
            token_fingerprint: Some("ab".repeat(16)),
            payload_fingerprint: Fingerprint::of(b"abc"),
            expires_at: UNIX_EPOCH,
            granted: ScopeSet::default(),
            degraded: false,
        }),
        error: Some(CredentialError {
            azure_request_id: Some("f00d".to_owned()),
            ..CredentialError::titled(Reason::FederationRejected)
        }),
        ..Facts::default()
    };
    let record = text(&ended(Outcome::Failed(Reason::FederationRejected)), &facts);
    assert!(!record.contains("canary"), "{record}");
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    assert_eq!(
        (&record["decision"], &record["outcome"]),
        (&"allow".into(), &"failed".into())
    );
    assert_eq!(record["policy"], "not_needed");
    assert_eq!(record["reason"], "FEDERATION_REJECTED");
    assert_eq!(record["azure_request_id"], "f00d");
    assert_eq!(
        record["request"]["identity"]["subject"],
        "system:serviceaccount:web:app"
    );
    assert!(record.get("credential").is_none(), "it was not answered");
}

#[test]
fn o1_verdict_tells_denied_from_failed_and_from_undecided() {
    use Reason::{
        AuditUnavailable, CallerThrottled, ClusterKeysUnavailable, DeadlineExceeded, EntraUnreachable,
        InvalidRequest, PolicyDenied, SubjectTokenRejected,
    };
    for (outcome, is_permitted, expected) in [
        (Outcome::Answered, true, ("allow", "answered")),
        (Outcome::NotModified, true, ("allow", "not_modified")),
        (Outcome::Cancelled, true, ("allow", "cancelled")),
        (Outcome::Cancelled, false, ("none", "cancelled")),
        (Outcome::Failed(PolicyDenied), false, ("deny", "refused")),
        (Outcome::Failed(SubjectTokenRejected), false, ("deny", "refused")),
        (Outcome::Failed(InvalidRequest), false, ("deny", "refused")),
        (
            Outcome::Failed(ClusterKeysUnavailable),
            false,
            ("deny", "refused"),
        ),
        (Outcome::Failed(CallerThrottled), false, ("deny", "refused")),
        (Outcome::Failed(DeadlineExceeded), false, ("none", "deadline")),
        (Outcome::Failed(DeadlineExceeded), true, ("allow", "deadline")),
        (Outcome::Failed(EntraUnreachable), true, ("allow", "failed")),
        (Outcome::Failed(AuditUnavailable), true, ("allow", "failed")),
    ] {
        assert_eq!(
            verdict(outcome, is_permitted),
            expected,
            "{outcome:?} {is_permitted}"
        );
    }
}
