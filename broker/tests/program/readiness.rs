//! What the process needs in order to start and to be ready, and what not.

use std::{net::TcpListener, time::Duration};

use serde_json::json;

use crate::process::{Broker, Signer, cluster, configuration, refused};

const CLIENT_ID: &str = "33333333-3333-3333-3333-000000000001";

/// Takes connections and never says a word.
fn black_hole() -> anyhow::Result<TcpListener> {
    Ok(TcpListener::bind("127.0.0.1:0")?)
}

#[tokio::test]
async fn r4_broker_whose_ways_out_are_all_dead_is_ready_and_stays_ready() -> anyhow::Result<()> {
    let hole = black_hole()?;
    let dead = hole.local_addr()?;
    // The issuer refuses at once, so that its keys have been tried soon; Azure hangs.
    let refusing = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
    let signer = Signer::new()?;
    let mut configuration = configuration(
        &signer,
        json!({
            "identities": [{
                "name": "team-web", "tenant": "22222222-2222-2222-2222-222222222222",
                "clientId": CLIENT_ID, "source": "imds",
            }],
            "grants": [{
                "name": "web", "clusters": ["weu-7"], "namespaces": ["web"], "serviceAccounts": ["*"],
                "identity": "team-web", "registries": ["prod.azurecr.io"], "repositories": ["*"],
            }],
            "egress": {
                "imdsEndpoint": format!("http://{dead}"),
                "hostOverrides": {"*.azurecr.io": dead, "login.microsoftonline.com": dead},
            },
        }),
    )?;
    if let Some(clusters) = configuration["clusters"].as_array_mut() {
        let mut other = cluster(
            "far",
            &json!({"url": format!("https://{refusing}/openid/v1/jwks")}),
        );
        other["issuer"] = json!("https://far.example");
        clusters.push(other);
    }
    let broker = Broker::start(signer, &configuration, &[]).await?;
    let client = broker.client(1)?;
    let token = broker.signer.caller_token(1)?;
    let question = json!({
        "binding": {"namespace": "web", "name": "pull"}, "serviceAccounts": ["app"],
        "registry": "prod.azurecr.io", "scopes": ["repository:app:pull"],
        "brokerOwned": {"clientId": CLIENT_ID},
    });
    let waiting = broker.ask(&client, &token, &question);
    let watched = async {
        for _ in 0..10 {
            assert_eq!(broker.admin_status("/readyz").await?, 200);
            assert_eq!(broker.admin_status("/livez").await?, 200);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    tokio::select! {
        answer = waiting => assert_eq!(answer?.0, 503, "no answer but that Azure is not there"),
        watched = watched => watched?,
    }
    Ok(())
}

#[tokio::test]
async fn a4_broker_that_asks_nobody_for_a_certificate_does_not_start_with_a_cluster_that_needs_one()
-> anyhow::Result<()> {
    let mut configuration = configuration(&Signer::new()?, json!({}))?;
    configuration["clusters"][0]["clientCertificates"] = json!(["spiffe://fleet/weu-7"]);
    let (code, said) = refused(&configuration, &[])?;
    assert_eq!(code, Some(64), "{said}");
    assert!(
        said.contains("clusters[0].clientCertificates: the broker asks nobody for a certificate")
            && said.contains("--tls-client-ca-file"),
        "{said}"
    );

    let (code, said) = refused(&configuration, &["--tls-client-ca-file=/nowhere/ca.crt"])?;
    assert_eq!(code, Some(1), "{said}");
    assert!(
        said.contains("/nowhere/ca.crt") && said.contains("--tls-client-ca-file"),
        "{said}"
    );
    Ok(())
}

#[tokio::test]
async fn broker_that_may_not_open_as_many_files_as_connections_says_so() -> anyhow::Result<()> {
    let configuration = configuration(&Signer::new()?, json!({}))?;
    let (code, said) = refused(&configuration, &["--max-connections=4000000000"])?;
    assert_eq!(code, Some(64), "{said}");
    assert!(
        said.contains("--max-connections 4000000000 takes 4000000512 open files, and this process may have")
            && said.contains("lower it, or raise the hard limit on open files"),
        "{said}"
    );
    assert_eq!(said.trim_end().lines().count(), 1, "{said}");
    Ok(())
}
