//! What somebody without a token can do to the listener: nothing that a caller with one notices.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, ensure};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::json;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::process::{Broker, ISSUER, PATIENCE, Signer, configuration};

/// More than the broker takes by default.
const IDLE_CONNECTIONS: usize = 5_000;
const MAX_CONNECTIONS: usize = 4_096;
/// Besides connections: listeners, files, the runtime's own.
const OTHER_FILES: usize = 100;
/// The memory of guarantee U8. An idle process takes some 27 MiB of it.
const MAX_MEMORY_MIB: u64 = 256;
/// Connections that hold as many streams as HTTP/2 lets them.
const HELD_CONNECTIONS: usize = 100;
const HELD_STREAMS: usize = 512;
/// They take 45 to 75 MiB, by how many are at it at a time; without the limit on strangers it was 236.
const MAX_MEMORY_HELD_MIB: u64 = 120;
const MADE_ROOM: &str = "acrpull_broker_connections_closed_total{reason=\"made_room\"}";

async fn broker() -> anyhow::Result<Broker> {
    let signer = Signer::new()?;
    let configuration = configuration(&signer, json!({}))?;
    Broker::start(signer, &configuration, &[]).await
}

/// Runs `attack` and calls as a caller does whom the broker knows, on a new connection each time: every call is
/// authenticated and answered.
async fn withstands(broker: &Broker, attack: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    let client = broker.client(0)?;
    let calls = async {
        let mut id = 0;
        loop {
            id += 1;
            let token = broker.signer.caller_token(id)?;
            let (status, reason) = broker
                .ask(&client, &token, &json!({}))
                .await
                .context("the good caller")?;
            ensure!(
                (status, reason.as_str()) == (400, "INVALID_REQUEST"),
                "{status} {reason}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        failed = calls => { let _: () = failed?; }
        done = attack => done?,
    }
    // And once more when it is over.
    let (status, _reason) = broker
        .ask(&client, &broker.signer.caller_token(0)?, &json!({}))
        .await?;
    ensure!(status == 400, "{status}");
    Ok(())
}

async fn tls(broker: &Broker, protocol: &[u8]) -> anyhow::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(broker.ca_pem.as_bytes())?)?;
    let mut config = ClientConfig::builder_with_provider(runtime::tls::crypto_provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(broker.address).await?;
    Ok(TlsConnector::from(Arc::new(config))
        .connect(ServerName::try_from("localhost")?, stream)
        .await?)
}

/// Reads until the broker has closed the connection, in whatever way.
async fn until_closed(stream: &mut (impl AsyncRead + Unpin)) -> anyhow::Result<()> {
    let mut sink = vec![0; 16 * 1024];
    let closed = async { while stream.read(&mut sink).await.is_ok_and(|read| read > 0) {} };
    timeout(PATIENCE, closed)
        .await
        .context("the connection stays open")
}

/// At its peak, over all that the broker has been through.
fn assert_memory(broker: &Broker, most_mib: u64) -> anyhow::Result<()> {
    let memory = broker.peak_memory_mib()?;
    assert!(memory <= most_mib, "{memory} MiB");
    Ok(())
}

#[tokio::test]
async fn u8_idle_connections_beyond_the_limit_cost_bounded_files_and_memory() -> anyhow::Result<()> {
    runtime::open_files::raise_limit();
    let broker = broker().await?;
    withstands(&broker, async {
        let mut connections = Vec::new();
        for number in 0..IDLE_CONNECTIONS {
            let mut stream = TcpStream::connect(broker.address).await?;
            if number % 10 == 0 {
                // The beginning of a ClientHello that never goes on.
                stream.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await?;
            }
            connections.push(stream);
        }
        // The kernel has completed all of them; now the broker accepts them.
        let flooded = async {
            while !broker.metrics().await?.contains(MADE_ROOM) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            anyhow::Ok(())
        };
        timeout(PATIENCE, flooded)
            .await
            .context("no connection made room")??;
        let sockets = broker.open_sockets()?;
        let most = MAX_CONNECTIONS + OTHER_FILES;
        ensure!((1_000..=most).contains(&sockets), "{sockets} open sockets");
        Ok(())
    })
    .await?;
    assert_memory(&broker, MAX_MEMORY_MIB)?;
    // The flood is over: what it took is given back.
    let free = async {
        while broker.open_sockets()? > OTHER_FILES {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        anyhow::Ok(())
    };
    timeout(PATIENCE, free).await.context("sockets stay open")??;
    Ok(())
}

#[tokio::test]
async fn u8_connections_that_hold_back_their_headers_hold_up_nobody() -> anyhow::Result<()> {
    let broker = broker().await?;
    withstands(&broker, async {
        let mut slow = Vec::new();
        for _ in 0..100 {
            let mut stream = tls(&broker, b"http/1.1").await?;
            stream
                .write_all(b"POST /v1/docker-config HTTP/1.1\r\nhost: localhost\r\nx-a: ")
                .await?;
            slow.push(stream);
        }
        // That they are closed after 10 s is tested in virtual time.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    })
    .await
}

#[tokio::test]
async fn u8_headers_without_end_are_cut_off() -> anyhow::Result<()> {
    let broker = broker().await?;
    withstands(&broker, async {
        for _ in 0..20 {
            let mut stream = tls(&broker, b"http/1.1").await?;
            // Writing fails once the broker has closed.
            drop(stream.write_all(b"GET / HTTP/1.1\r\nx-a: ").await);
            drop(stream.write_all(&vec![b'a'; 2 * 1024 * 1024]).await);
            until_closed(&mut stream).await?;
            let mut stream = tls(&broker, b"h2").await?;
            drop(stream.write_all(&endless_http2_headers()).await);
            until_closed(&mut stream).await?;
        }
        Ok(())
    })
    .await?;
    assert_memory(&broker, MAX_MEMORY_MIB)
}

#[tokio::test]
async fn u8_streams_that_are_opened_and_reset_end_their_connection() -> anyhow::Result<()> {
    let broker = broker().await?;
    withstands(&broker, async {
        for _ in 0..10 {
            let mut stream = tls(&broker, b"h2").await?;
            drop(stream.write_all(&rapid_resets(20_000)).await);
            until_closed(&mut stream).await?;
        }
        Ok(())
    })
    .await?;
    assert_memory(&broker, MAX_MEMORY_MIB)
}

#[tokio::test]
async fn u8_streams_that_are_held_open_cost_bounded_memory() -> anyhow::Result<()> {
    let broker = broker().await?;
    withstands(&broker, async {
        let mut connections = Vec::new();
        for number in 0..HELD_CONNECTIONS {
            let path = ["/grpc.health.v1.Health/Watch", "/v1/docker-config"][number % 2];
            let mut stream = tls(&broker, b"h2").await?;
            // Writing fails once the broker has closed.
            drop(stream.write_all(&held_streams(path)).await);
            connections.push(stream);
        }
        for stream in &mut connections {
            until_closed(stream).await?;
        }
        Ok(())
    })
    .await?;
    assert_memory(&broker, MAX_MEMORY_HELD_MIB)
}

/// A few streams each, so that no connection is asked to go.
#[tokio::test]
async fn u8_strangers_that_keep_within_their_limits_hold_up_nobody() -> anyhow::Result<()> {
    let broker = broker().await?;
    withstands(&broker, async {
        let mut connections = Vec::new();
        for _ in 0..HELD_CONNECTIONS {
            let mut stream = tls(&broker, b"h2").await?;
            let mut bytes = http2_without_window();
            bytes.extend(post(1, "/grpc.health.v1.Health/Watch"));
            for stream in (3..).step_by(2).take(7) {
                bytes.extend(post(stream, "/v1/docker-config"));
            }
            stream.write_all(&bytes).await?;
            connections.push(stream);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(())
    })
    .await?;
    assert_memory(&broker, MAX_MEMORY_HELD_MIB)
}

#[tokio::test]
async fn u8_caller_whose_request_was_refused_keeps_its_connection_in_a_flood() -> anyhow::Result<()> {
    let signer = Signer::new()?;
    let configuration = configuration(&signer, json!({}))?;
    let broker = Broker::start(signer, &configuration, &["--max-connections=2"]).await?;
    let mut caller = tls(&broker, b"http/1.1").await?;
    // Admitted, and then refused because it asks for nothing.
    let request = format!(
        "POST /v1/docker-config HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: 2\r\n\r\n{{}}",
        broker.signer.caller_token(0)?
    );
    for _ in 0..2 {
        caller.write_all(request.as_bytes()).await?;
        let mut answer = vec![0; 4096];
        let length = timeout(PATIENCE, caller.read(&mut answer)).await??;
        let answer = String::from_utf8_lossy(answer.get(..length).unwrap_or_default());
        ensure!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        let mut strangers = Vec::new();
        for _ in 0..5 {
            strangers.push(TcpStream::connect(broker.address).await?);
        }
        // It went for the sake of those that came after it.
        until_closed(&mut strangers[0]).await?;
    }
    Ok(())
}

#[tokio::test]
async fn u8_forged_tokens_are_refused_one_by_one() -> anyhow::Result<()> {
    let broker = Arc::new(broker().await?);
    let stranger = Arc::new(Signer::new()?);
    let attackers = Arc::clone(&broker);
    withstands(&broker, async move {
        let mut tasks = JoinSet::new();
        for attacker in 0..10_u32 {
            let (broker, stranger) = (Arc::clone(&attackers), Arc::clone(&stranger));
            tasks.spawn(async move {
                let client = broker.client(1)?;
                for number in 0..100 {
                    // The right issuer, key id and claims; another key.
                    let token = stranger.caller_token(attacker * 100 + number)?;
                    let (status, reason) = broker.ask(&client, &token, &json!({})).await?;
                    ensure!(
                        (status, reason.as_str()) == (401, "CLUSTER_NOT_REGISTERED"),
                        "{status} {reason} {ISSUER}"
                    );
                }
                Ok(())
            });
        }
        while let Some(ended) = tasks.join_next().await {
            ended??;
        }
        Ok(())
    })
    .await?;
    let log = broker.log()?;
    assert!(
        !log.contains("CLUSTER_NOT_REGISTERED"),
        "strangers write the log: {log}"
    );
    assert_memory(&broker, MAX_MEMORY_MIB)
}

/// RFC 9113 section 4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = length.into_iter().skip(1).collect::<Vec<u8>>();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// The preface and an empty SETTINGS.
fn http2_beginning() -> Vec<u8> {
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    bytes
}

/// The same, with a window for no byte of any answer.
fn http2_without_window() -> Vec<u8> {
    const INITIAL_WINDOW_SIZE: [u8; 2] = [0, 4];
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[&INITIAL_WINDOW_SIZE[..], &[0; 4]].concat()));
    bytes
}

/// A gRPC request with an empty message, or a POST without a token, by `path`.
fn post(stream: u32, path: &str) -> Vec<u8> {
    const END_HEADERS: u8 = 0x4;
    const END_STREAM: u8 = 0x1;
    // `:method: POST`, `:scheme: https`; `:path`, `content-type` as literals (RFC 7541 section 6.2.2).
    let mut block = vec![0x83, 0x87, 0x04];
    let literal = |text: &str| {
        [
            &[u8::try_from(text.len()).unwrap_or(u8::MAX)][..],
            text.as_bytes(),
        ]
        .concat()
    };
    block.extend(literal(path));
    if path.starts_with("/grpc") {
        block.extend([0x0f, 0x10]);
        block.extend(literal("application/grpc"));
    }
    let mut bytes = frame(1, END_HEADERS, stream, &block);
    bytes.extend(frame(0, END_STREAM, stream, &[0; 5]));
    bytes
}

/// As many streams as there may be, none of which ends.
fn held_streams(path: &str) -> Vec<u8> {
    let mut bytes = http2_without_window();
    for stream in (1..).step_by(2).take(HELD_STREAMS) {
        bytes.extend(post(stream, path));
    }
    bytes
}

/// CVE-2023-44487: each stream is reset as soon as it is opened, so that it never counts.
fn rapid_resets(count: u32) -> Vec<u8> {
    /// `:method: POST`, `:scheme: https`, `:path: /`, all from the static table of HPACK.
    const HEADERS: [u8; 3] = [0x83, 0x87, 0x84];
    const END_STREAM_AND_HEADERS: u8 = 0x1 | 0x4;
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    let mut bytes = http2_beginning();
    for stream in (1..).step_by(2).take(count as usize) {
        bytes.extend(frame(1, END_STREAM_AND_HEADERS, stream, &HEADERS));
        bytes.extend(frame(3, 0, stream, &CANCEL));
    }
    bytes
}

/// A header block that goes on and on (CVE-2024-27316).
fn endless_http2_headers() -> Vec<u8> {
    // A literal header without indexing: a name of one byte, a value of 100.
    let mut field = vec![0x00, 0x01, b'a', 100];
    field.extend([b'x'; 100]);
    let block: Vec<u8> = field.iter().copied().cycle().take(104 * 150).collect();
    let mut bytes = http2_beginning();
    bytes.extend(frame(1, 0, 1, &block));
    for _ in 0..200 {
        bytes.extend(frame(9, 0, 1, &block));
    }
    bytes
}
