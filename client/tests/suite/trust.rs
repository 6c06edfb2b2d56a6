//! Whom the client talks to, and whom not.

use std::time::Duration;

use client::{BrokerClient, ClientError, ClientOptions};
use proto::Reason;

use crate::{
    authority::{Authority, HOST},
    replica::Replica,
    scene::{Scene, call, connected},
};

const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_for_another_host_or_of_another_authority_is_refused() {
    let scene = Scene::new();
    let other_host = scene.authority.issue("somebody-else.svc");
    let other_authority = Authority::new().issue(HOST);
    let by_name = Replica::start(other_host, &scene.log, None).await;
    let by_authority = Replica::start(other_authority, &scene.log, None).await;
    let client = scene.client(&[by_name.address, by_authority.address]);
    let error = call(&client, "refused").await.unwrap_err();
    assert_eq!(error.reason, Reason::BrokerUnreachable);
    assert!(scene.log.events().is_empty(), "a token went to a stranger");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authority_that_was_replaced_counts_from_the_next_connection_on() {
    let scene = Scene::new();
    let mut replica = scene.replica().await;
    let client = scene.client(&[replica.address]);
    connected(&client, 1, PATIENCE).await;
    let next = Authority::new();
    // Half a file is not taken, and does not take away what was there.
    std::fs::write(&scene.ca_file, "-----BEGIN CERTIFICATE-----\nAAAA").unwrap();
    replica.drain().await;
    replica.restart().await;
    assert_eq!(call(&client, "old").await.unwrap(), replica.address);

    std::fs::write(&scene.ca_file, next.pem()).unwrap();
    replica.set_identity(next.issue(HOST));
    replica.drain().await;
    replica.restart().await;
    assert_eq!(call(&client, "new").await.unwrap(), replica.address);
}

#[tokio::test]
async fn options_that_cannot_work_are_refused_with_the_reason() {
    let scene = Scene::new();
    let new = |address: &str, ca_file: &std::path::Path| {
        BrokerClient::new(&ClientOptions {
            address: address.to_owned(),
            ca_file: Some(ca_file.to_owned()),
            ..scene.options()
        })
        .map(|_client| ())
        .unwrap_err()
    };
    assert!(matches!(
        new("http://broker:8443", &scene.ca_file),
        ClientError::NotHttps { .. }
    ));
    assert!(matches!(
        new("not an address", &scene.ca_file),
        ClientError::Address { .. }
    ));
    assert!(matches!(
        new("https://bro_ker!:8443", &scene.ca_file),
        ClientError::Host { .. } | ClientError::Address { .. }
    ));
    assert!(matches!(
        new("https://broker:8443", &scene.token_file),
        ClientError::Ca(_)
    ));
}
