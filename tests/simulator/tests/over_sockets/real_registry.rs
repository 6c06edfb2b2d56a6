//! Requests that go on to a registry behind the simulated one. A small HTTP server stands for it here; the
//! real one, and a real client, are part of the tests that cross crates.

use anyhow::{Context, Result};
use azure_simulator::{Operation, RoleMode, Service};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    task::JoinSet,
};

use crate::azure::{HOST, Walk, builder, state};

/// Answers one request and returns its head.
async fn one_request(listener: TcpListener, answer: &'static str) -> Result<String> {
    let (mut stream, _) = listener.accept().await?;
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        anyhow::ensure!(
            stream.read_buf(&mut head).await? > 0,
            "the connection ended early"
        );
    }
    stream.write_all(answer.as_bytes()).await?;
    Ok(String::from_utf8(head)?)
}

#[tokio::test]
async fn request_is_passed_on_as_the_client_made_it() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut behind = state();
    behind.registries[0].backend = Some(format!("http://{}", listener.local_addr()?));
    let walk = Walk::with(builder().state(behind)).await?;
    let mut registry = JoinSet::new();
    registry.spawn(one_request(
        listener,
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
    ));

    let access_token = walk.access_token().await?;
    let url = format!("https://{HOST}/v2/team/app/blobs/sha256:1?ns=x");
    let response = walk.http.get(url).bearer_auth(&access_token).send().await?;
    assert_eq!(response.text().await?, "hello");
    let head = registry
        .join_next()
        .await
        .context("nothing was passed on")???
        .to_lowercase();
    assert!(
        head.starts_with("get /v2/team/app/blobs/sha256:1?ns=x http/1.1\r\n"),
        "{head}"
    );
    assert!(head.contains("\r\nhost: demo.azurecr.io\r\n"), "{head}");
    assert!(head.contains("\r\nx-forwarded-proto: https\r\n"), "{head}");
    assert!(head.contains("\r\nauthorization: bearer "), "{head}");

    walk.azure
        .update(|state| state.registries[0].switch_mode(RoleMode::RbacAbac))?;
    assert_eq!(
        walk.manifest("team/app", &access_token).await?,
        401,
        "issued before the switch"
    );
    Ok(())
}

#[tokio::test]
async fn registry_that_is_not_there_is_502() -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut behind = state();
    behind.registries[0].backend = Some(format!("http://{}", listener.local_addr()?));
    drop(listener);
    let walk = Walk::with(builder().state(behind)).await?;
    let access_token = walk.access_token().await?;
    assert_eq!(walk.manifest("team/app", &access_token).await?, 502);
    let calls = walk.azure.calls().of(Service::Acr, Operation::Manifest);
    assert!(
        calls.entries()[0].trace[0].contains("does not answer"),
        "{:?}",
        calls.entries()[0].trace
    );
    Ok(())
}
