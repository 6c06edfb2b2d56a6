//! The end of the process: announced, orderly, and never held up by who only watches.

use std::os::unix::process::ExitStatusExt as _;

use anyhow::Context as _;
use rustix::process::Signal;
use serde_json::json;
use tokio::net::TcpStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::process::{Broker, PATIENCE, Signer, configuration};

async fn broker() -> anyhow::Result<Broker> {
    let signer = Signer::new()?;
    let configuration = configuration(&signer, json!({}))?;
    Broker::start(signer, &configuration, &[]).await
}

#[tokio::test]
async fn r1_shutdown_is_told_to_those_who_watch_and_does_not_wait_for_them() -> anyhow::Result<()> {
    let mut broker = broker().await?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&broker.ca_pem));
    let endpoint =
        Channel::from_shared(format!("https://localhost:{}", broker.address.port()))?.tls_config(tls)?;
    let mut statuses = Vec::new();
    for service in ["", "acrpull.broker.v1.CredentialService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        // One connection may watch once.
        let mut health = HealthClient::new(endpoint.connect().await?);
        statuses.push(health.watch(request).await?.into_inner());
    }
    for stream in &mut statuses {
        let first = stream.message().await?.context("no status")?;
        assert_eq!(first.status(), ServingStatus::Serving);
    }
    broker.signal(Signal::TERM)?;
    for stream in &mut statuses {
        let last = stream.message().await?.context("no status")?;
        assert_eq!(last.status(), ServingStatus::NotServing);
        assert!(stream.message().await?.is_none(), "the stream ends");
    }
    assert_eq!(broker.ended().await?.code(), Some(0), "{}", broker.log()?);
    Ok(())
}

#[tokio::test]
async fn r1_draining_broker_is_not_ready_takes_no_connection_and_ends_on_a_second_signal()
-> anyhow::Result<()> {
    let mut broker = broker().await?;
    // A connection in its handshake holds the drain for its 5 s: long enough to look around.
    let held = TcpStream::connect(broker.address).await?;
    broker.signal(Signal::TERM)?;
    let drained = async {
        while broker.admin_status("/readyz").await? != 503 || TcpStream::connect(broker.address).await.is_ok()
        {
            tokio::task::yield_now().await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, drained).await??;
    assert_eq!(broker.admin_status("/livez").await?, 200);
    broker.signal(Signal::TERM)?;
    let status = broker.ended().await?;
    assert_eq!((status.code(), status.signal()), (Some(143), None));
    drop(held);
    Ok(())
}
