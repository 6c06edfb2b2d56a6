//! Where one cluster's calls are refused at once and another's take their time, and the rate is what both wait for.

use std::{sync::Arc, time::Duration};

use proto::{Reason, types::ScopeSet};
use runtime::tasks::spawn_detached;
use tokio::time::Instant;

use super::{
    one_call::{federated, identity},
    rig::{Reaction, Rig, Sent, attempt_of, refresh_token_body},
};
use crate::{
    authz::TokenSource,
    azure::{gate::HostKind, transport::Endpoint},
    error::CredentialError,
};

const REGISTRY: &str = "r.azurecr.io";

/// Asks once for something that nobody has asked for before, by a name from which the other side knows the cluster.
async fn ask(rig: &Rig, kind: HostKind, cluster: &str, number: u32) -> Result<(), CredentialError> {
    let attempt = attempt_of(cluster, "web");
    let registry = REGISTRY.parse().unwrap();
    let answer = match (kind, cluster) {
        (HostKind::Entra, _) => {
            let first = match cluster {
                "refused" => "ffffffff",
                "early" => "eeeeeeee",
                _ => "00000000",
            };
            let source = federated(&format!("{first}-0000-0000-0000-{number:012}"));
            rig.azure.entra_token(&source, &attempt).await
        }
        (HostKind::Imds, _) => {
            let source = TokenSource::BrokerOwned(identity(&format!("{cluster}{number}")));
            rig.azure.entra_token(&source, &attempt).await
        }
        (HostKind::Registry, "refused") => {
            let scopes = ScopeSet::from_field(&format!("repository:{number}:pull")).unwrap();
            let refresh = "t".to_owned().into();
            let answer = rig
                .azure
                .access_token(&registry, &refresh, &scopes, &attempt)
                .await;
            answer.map(|(issued, _scopes)| issued)
        }
        (HostKind::Registry, _) => {
            let entra_token = cluster.to_owned().into();
            rig.azure.refresh_token(&registry, &entra_token, &attempt).await
        }
    };
    answer.map(drop)
}

fn is_refused(sent: &Sent) -> bool {
    sent.form.contains("ffffffff") || sent.uri.contains("refused") || sent.endpoint == Endpoint::Token
}

fn is_early(sent: &Sent) -> bool {
    sent.form.contains("eeeeeeee") || sent.form.contains("early") || sent.uri.contains("early")
}

/// Refuses in 20 ms, and grants in 200, but at once to those who are early.
fn answer(sent: &Sent) -> Reaction {
    let (after, status, body) = match (is_refused(sent), sent.endpoint) {
        (true, Endpoint::Entra | Endpoint::Imds) => {
            let refusal = r#"{"error":"invalid_request","error_description":"Identity not found"}"#;
            (20, 400, refusal.to_owned())
        }
        (true, _) => (20, 401, String::new()),
        (false, Endpoint::Exchange) => (200, 200, refresh_token_body(&sent.host)),
        (false, _) => {
            let token = r#"{"access_token":"t","expires_in":"86399","token_type":"Bearer"}"#;
            (200, 200, token.to_owned())
        }
    };
    let after = if is_early(sent) { 0 } else { after };
    Reaction::Answer {
        after: Duration::from_millis(after),
        status,
        headers: Vec::new(),
        body,
    }
}

/// How many calls of each of the two were sent in ten seconds after the burst, by so many callers of each.
async fn sent(kind: HostKind, burst: u32, callers: u32) -> [usize; 2] {
    let rig = Arc::new(Rig::new(answer));
    for number in 0..burst {
        ask(&rig, kind, "early", 1_000_000 + number).await.ok().unwrap();
    }
    let start = Instant::now();
    let asking = ["refused", "served"].into_iter().flat_map(|cluster| {
        let rig = Arc::clone(&rig);
        (0..callers).map(move |caller| {
            let rig = Arc::clone(&rig);
            spawn_detached(async move {
                let (mut number, mut in_vain) = (caller, 0);
                while start.elapsed() < Duration::from_secs(20) {
                    let answer = ask(&rig, kind, cluster, number).await;
                    let waited_in_vain = |error: CredentialError| error.reason == Reason::Overloaded;
                    in_vain += u32::from(answer.is_err_and(waited_in_vain));
                    number += callers;
                }
                in_vain
            })
        })
    });
    for caller in asking.collect::<Vec<_>>() {
        assert_eq!(caller.await.unwrap(), 0, "{kind:?}: who waits has a turn in time");
    }
    let mut sent = [0, 0];
    let window = start + Duration::from_secs(10)..start + Duration::from_secs(20);
    for call in rig
        .transport
        .log()
        .iter()
        .filter(|call| window.contains(&call.at))
    {
        sent[usize::from(is_refused(call))] += 1;
    }
    sent
}

#[tokio::test(start_paused = true)]
async fn u6_cluster_whose_calls_are_refused_at_once_has_half_of_the_rate_beside_one_whose_calls_take_long() {
    for (kind, burst, callers, each) in [
        (HostKind::Entra, 2000, 100, 495..=505),
        (HostKind::Registry, 2000, 100, 495..=505),
        (HostKind::Imds, 4, 5, 24..=26),
    ] {
        let sent = sent(kind, burst, callers).await;
        assert!(sent.iter().all(|sent| each.contains(sent)), "{kind:?}: {sent:?}");
    }
}
