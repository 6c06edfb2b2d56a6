//! What is asked, once, and what is made of the answer.

use std::{sync::Arc, time::Duration};

use proto::Reason;
use url::Url;

use super::rig::{Reaction, Rig, attempt, refresh_token_body, status, token};
use crate::{
    authz::TokenSource,
    azure::transport::{Endpoint, Part, Stage, TlsFault, TransportError},
    config::{Cloud, Identity, IdentitySource},
};

const CLIENT: &str = "00000001-0000-0000-0000-000000000000";
const OTHER_CLIENT: &str = "00000002-0000-0000-0000-000000000000";

fn cloud() -> Arc<Cloud> {
    Arc::new(Cloud {
        name: "PublicCloud".into(),
        authority: Url::parse("https://login.example").unwrap(),
        registry_suffixes: vec!["azurecr.io".to_owned()],
        registry_audience: "https://containerregistry.azure.net".to_owned(),
        federation_audience: None,
    })
}

pub(super) fn federated(client: &str) -> TokenSource {
    TokenSource::Federated {
        cloud: cloud(),
        tenant: "contoso.example".parse().unwrap(),
        client: client.parse().unwrap(),
        cluster: "c".into(),
        issuer: "https://issuer.example".into(),
        subject: "system:serviceaccount:n:s".into(),
        audiences: vec!["api://AzureCRTokenExchange".to_owned()].into(),
        assertion: "assertion".to_owned().into(),
    }
}

/// A broker-owned identity, told apart on the wire by its resource id.
pub(super) fn identity(name: &str) -> Arc<Identity> {
    Arc::new(Identity {
        name: name.into(),
        cloud: cloud(),
        tenant: "contoso.example".parse().unwrap(),
        client_id: None,
        resource_id: Some(
            format!("/subscriptions/{CLIENT}/resourceGroups/g/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}")
                .parse()
                .unwrap(),
        ),
        source: IdentitySource::Imds,
        application: None,
    })
}

fn entra_token() -> Reaction {
    Reaction::Answer {
        after: Duration::from_millis(20),
        status: 200,
        headers: Vec::new(),
        body: r#"{"access_token":"t","expires_in":3599,"token_type":"Bearer"}"#.to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn e2_token_is_asked_for_the_registry_audience_and_no_other() {
    let rig = Rig::new(|_| entra_token());
    rig.azure
        .entra_token(&federated(CLIENT), &attempt("a"))
        .await
        .ok()
        .unwrap();
    rig.azure
        .entra_token(&TokenSource::BrokerOwned(identity("web")), &attempt("a"))
        .await
        .ok()
        .unwrap();
    let log = rig.transport.log();
    let [entra, imds] = log.as_slice() else {
        panic!("one call each: {log:?}");
    };
    assert_eq!(entra.endpoint, Endpoint::Entra);
    assert_eq!(
        entra.uri,
        "https://login.example/contoso.example/oauth2/v2.0/token"
    );
    let scope = "scope=https%3A%2F%2Fcontainerregistry.azure.net%2F.default";
    assert_eq!(
        entra
            .form
            .split('&')
            .filter(|field| field.starts_with("scope="))
            .collect::<Vec<_>>(),
        [scope]
    );
    assert_eq!(imds.endpoint, Endpoint::Imds);
    assert!(
        imds.uri
            .contains("resource=https%3A%2F%2Fcontainerregistry.azure.net&"),
        "{}",
        imds.uri
    );
}

#[tokio::test(start_paused = true)]
async fn u1_entra_throttles_one_client_of_one_tenant_for_a_minute() {
    let rig = Rig::new(|sent| {
        if sent.form.contains(CLIENT) {
            status(429, &[])
        } else {
            entra_token()
        }
    });
    let throttled = rig.azure.entra_token(&federated(CLIENT), &attempt("a")).await;
    assert_eq!(throttled.err().unwrap().reason, Reason::UpstreamThrottled);
    for _ in 0..58 {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let refused = rig.azure.entra_token(&federated(CLIENT), &attempt("a")).await;
        assert!(refused.err().unwrap().is_remembered);
        let other = rig
            .azure
            .entra_token(&federated(OTHER_CLIENT), &attempt("a"))
            .await;
        assert!(other.is_ok());
    }
    let sent = rig.transport.log();
    assert_eq!(sent.iter().filter(|sent| sent.form.contains(CLIENT)).count(), 1);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(
        rig.azure
            .entra_token(&federated(CLIENT), &attempt("a"))
            .await
            .is_err()
    );
    assert_eq!(rig.transport.log().len(), sent.len() + 1, "and then one tries");
}

#[tokio::test(start_paused = true)]
async fn c1_one_fetch_is_one_request_whatever_becomes_of_it() {
    let reactions: [fn() -> Reaction; 9] = [
        || status(401, &[]),
        || status(408, &[]),
        || status(429, &[("retry-after", "1")]),
        || status(500, &[]),
        || status(503, &[("retry-after", "1")]),
        || status(307, &[("location", "https://elsewhere.example")]),
        || Reaction::Fail(TransportError::Broken),
        || Reaction::Fail(TransportError::Connect),
        || Reaction::Hang,
    ];
    for reaction in reactions {
        let rig = Rig::new(move |_| reaction());
        assert!(rig.ask("r.azurecr.io", &attempt("a")).await.is_err());
        assert_eq!(rig.transport.log().len(), 1);
        let rig = Rig::new(move |_| reaction());
        for source in [federated(CLIENT), TokenSource::BrokerOwned(identity("web"))] {
            assert!(rig.azure.entra_token(&source, &attempt("a")).await.is_err());
        }
        assert_eq!(rig.transport.log().len(), 2);
    }
}

#[tokio::test(start_paused = true)]
async fn u3_imds_that_is_being_updated_is_asked_every_ten_seconds_for_seventy() {
    let rig = Rig::new(|_| status(410, &[]));
    let source = TokenSource::BrokerOwned(identity("web"));
    let mut waits = Vec::new();
    for _ in 0..9 {
        let error = rig.azure.entra_token(&source, &attempt("a")).await.err().unwrap();
        assert_eq!(error.reason, Reason::IdentityEndpointUnreachable);
        waits.push(error.retry_after);
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
    let ten = Some(Duration::from_secs(10));
    assert_eq!(waits, [ten, ten, ten, ten, ten, ten, ten, None, None]);
}

#[tokio::test(start_paused = true)]
async fn e3_answer_that_is_not_what_was_asked_for_is_no_token() {
    let answers = [
        String::new(),
        "{}".to_owned(),
        r#"{"refresh_token":""}"#.to_owned(),
        r#"{"refresh_token":"opaque"}"#.to_owned(),
        r#"{"refresh_token":7}"#.to_owned(),
        "<html></html>".to_owned(),
        "\u{feff}{}".to_owned(),
        "[".repeat(60_000),
    ];
    for body in answers {
        let rig = Rig::new(move |_| Reaction::Answer {
            after: Duration::ZERO,
            status: 200,
            headers: Vec::new(),
            body: body.clone(),
        });
        let error = rig.ask("r.azurecr.io", &attempt("a")).await.err().unwrap();
        assert_eq!(error.reason, Reason::UpstreamMalformed);
    }
    let rig = Rig::new(|_| token(Duration::ZERO, "other.azurecr.io"));
    let error = rig.ask("r.azurecr.io", &attempt("a")).await.err().unwrap();
    assert_eq!(error.reason, Reason::UpstreamMalformed);
}

#[tokio::test(start_paused = true)]
async fn upstream_text_of_a_failure_is_the_same_each_time() {
    for error in [
        TransportError::Timeout(Stage::Headers),
        TransportError::Tls(TlsFault::Untrusted),
        TransportError::Oversized(Part::Headers),
        TransportError::NoSuchName,
    ] {
        let rig = Rig::new(move |_| Reaction::Fail(error));
        let mut texts = Vec::new();
        for _ in 0..8 {
            texts.push(
                rig.ask("r.azurecr.io", &attempt("a"))
                    .await
                    .err()
                    .unwrap()
                    .message,
            );
        }
        texts.dedup();
        assert_eq!(texts.len(), 1, "{texts:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn s7_token_of_a_registry_whose_clock_is_ahead_ends_by_that_clock() {
    // The rig's clock starts at 1,800,000,000 s, 2027-01-15 08:00:00, and its tokens live 4,500 s from then.
    let date = ("date", "Fri, 15 Jan 2027 09:00:00 GMT".to_owned());
    let rig = Rig::new(move |sent| Reaction::Answer {
        after: Duration::ZERO,
        status: 200,
        headers: vec![date.clone()],
        body: refresh_token_body(&sent.host),
    });
    let issued = rig.ask("r.azurecr.io", &attempt("a")).await.ok().unwrap();
    let left = issued.expires_at.duration_since(std::time::UNIX_EPOCH).unwrap();
    assert!(
        (898..=900).contains(&(left.as_secs() - 1_800_000_000)),
        "{left:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn upstream_clock_skew_is_measured() {
    // The rig's clock starts at 1,800,000,000 s: 2027-01-15 08:00:00.
    let rig = Rig::new(|_| status(401, &[("date", "Fri, 15 Jan 2027 08:10:00 GMT")]));
    assert!(rig.ask("r.azurecr.io", &attempt("a")).await.is_err());
    let page = rig.metrics();
    let line = page
        .lines()
        .find(|line| line.starts_with("acrpull_broker_clock_skew_seconds{upstream=\"acr\"}"))
        .unwrap();
    let skew: f64 = line.split(' ').next_back().unwrap().parse().unwrap();
    assert!((600.0..601.0).contains(&skew), "{line}");
}
