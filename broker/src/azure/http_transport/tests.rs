//! Real sockets on loopback: what each fault of a server is called, and that every stage has its bound.
//!
//! Where a bound is waited for, the clock is stopped once the server has let the client come that far: from then on
//! time passes as fast as nothing happens.

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use runtime::tasks::spawn_detached;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{
    azure::transport::TlsFault,
    config::{HostOverride, Pattern},
};

const HOST: &str = "example.azurecr.io";

/// What the server does with a connection.
#[derive(Clone, Copy)]
enum Server {
    /// Shakes hands, reads the request, writes this, closes.
    Writes(&'static str),
    /// Writes so many bytes of a header, or of a body.
    WritesLong { header: usize, body: usize },
    /// Writes this, and then nothing more.
    HangsAfter(&'static str),
    /// Says nothing at all.
    HangsAtOnce,
    /// Knows no version of TLS that we do.
    SpeaksOldTls,
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn server_config(&self, name: &str, is_expired: bool) -> Arc<ServerConfig> {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if is_expired {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 2, 1);
        }
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

/// Starts a server; the second part counts its connections.
async fn start(server: Server, tls: Arc<ServerConfig>) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connections = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&connections);
    drop(spawn_detached(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            match server {
                Server::HangsAtOnce => {
                    tokio::time::pause();
                    std::future::pending::<()>().await;
                }
                Server::SpeaksOldTls => {
                    let mut hello = [0; 5];
                    socket.read_exact(&mut hello).await.unwrap();
                    // Alert, fatal, protocol_version (RFC 8446 section 6).
                    socket.write_all(&[0x15, 3, 1, 0, 2, 2, 70]).await.unwrap();
                    let mut rest = Vec::new();
                    drop(socket.read_to_end(&mut rest).await);
                    continue;
                }
                Server::Writes(_) | Server::WritesLong { .. } | Server::HangsAfter(_) => {}
            }
            let Ok(mut stream) = TlsAcceptor::from(Arc::clone(&tls)).accept(socket).await else {
                continue;
            };
            let mut request = [0; 4096];
            assert!(stream.read(&mut request).await.unwrap() > 0);
            let answer = match server {
                Server::Writes(answer) | Server::HangsAfter(answer) => answer.to_owned(),
                Server::WritesLong { header, body } => format!(
                    "HTTP/1.1 200 OK\r\nx-long: {}\r\ncontent-length: {body}\r\n\r\n{}",
                    "h".repeat(header),
                    "b".repeat(body)
                ),
                Server::HangsAtOnce | Server::SpeaksOldTls => String::new(),
            };
            // A client that has seen enough closes first.
            drop(stream.write_all(answer.as_bytes()).await);
            if matches!(server, Server::HangsAfter(_)) {
                stream.flush().await.unwrap();
                tokio::time::pause();
                std::future::pending::<()>().await;
            }
            drop(stream.shutdown().await);
        }
    }));
    (address, connections)
}

fn egress(address: SocketAddr, ca_bundle_pem: Option<String>) -> EgressConfig {
    EgressConfig {
        ca_bundle_pem: ca_bundle_pem.map(String::into_bytes),
        host_overrides: vec![HostOverride {
            host: Pattern::new("*.azurecr.io"),
            address,
        }],
        imds_endpoint: format!("http://{address}").parse().unwrap(),
    }
}

fn fence() -> RegistryFence {
    RegistryFence::new([], ["azurecr.io".to_owned()])
}

fn request_to(url: &str) -> Request<Bytes> {
    Request::post(url).body(Bytes::from_static(b"a=b")).unwrap()
}

async fn ask(address: SocketAddr, ca_bundle_pem: Option<String>) -> Result<Answer, TransportError> {
    let transport = HttpTransport::new(&egress(address, ca_bundle_pem), fence()).unwrap();
    let request = request_to(&format!("https://{HOST}/oauth2/exchange"));
    transport.exchange(Endpoint::Exchange, request).await
}

/// Asks a server with a good certificate.
async fn answer_of(server: Server) -> Result<Answer, TransportError> {
    let authority = Authority::new();
    let (address, _) = start(server, authority.server_config(HOST, false)).await;
    ask(address, Some(authority.0.pem())).await
}

#[tokio::test]
async fn transport_reads_status_headers_and_body() {
    let text = "HTTP/1.1 401 No\r\nx-a: b\r\ncontent-length: 2\r\n\r\nhi";
    let answer = answer_of(Server::Writes(text)).await.unwrap();
    assert_eq!(
        (answer.status().as_u16(), answer.body().as_slice()),
        (401, b"hi".as_slice())
    );
    assert_eq!(answer.headers().get("x-a").unwrap(), "b");
}

#[tokio::test]
async fn e1_certificate_that_is_not_in_order_is_no_connection() {
    let authority = Authority::new();
    let trusted = || Some(authority.0.pem());
    for (name, is_expired, bundle, fault) in [
        (HOST, false, None, TlsFault::Untrusted),
        (HOST, false, Some(Authority::new().0.pem()), TlsFault::Untrusted),
        ("other.azurecr.io", false, trusted(), TlsFault::WrongName),
        (HOST, true, trusted(), TlsFault::Expired),
    ] {
        let config = authority.server_config(name, is_expired);
        let (address, _) = start(Server::Writes("HTTP/1.1 200 OK\r\n\r\n"), config).await;
        assert_eq!(ask(address, bundle).await.err(), Some(TransportError::Tls(fault)));
    }
    let old = answer_of(Server::SpeaksOldTls).await;
    assert_eq!(old.err(), Some(TransportError::Tls(TlsFault::OldVersion)));
}

#[tokio::test]
async fn e1_redirect_is_an_answer_and_not_followed() {
    let authority = Authority::new();
    for (status, text) in [
        (
            300,
            "HTTP/1.1 300 Go\r\nlocation: https://example.azurecr.io/elsewhere\r\n\r\n",
        ),
        (
            301,
            "HTTP/1.1 301 Go\r\nlocation: https://example.azurecr.io/elsewhere\r\n\r\n",
        ),
        (
            302,
            "HTTP/1.1 302 Go\r\nlocation: https://example.azurecr.io/elsewhere\r\n\r\n",
        ),
        (303, "HTTP/1.1 303 Go\r\nlocation: /elsewhere\r\n\r\n"),
        (
            307,
            "HTTP/1.1 307 Go\r\nlocation: https://example.azurecr.io/elsewhere\r\n\r\n",
        ),
        (
            308,
            "HTTP/1.1 308 Go\r\nlocation: //example.azurecr.io/elsewhere\r\n\r\n",
        ),
        (
            401,
            "HTTP/1.1 401 No\r\nwww-authenticate: Bearer realm=\"https://example.azurecr.io/elsewhere\"\r\n\r\n",
        ),
        (
            200,
            "HTTP/1.1 200 Ok\r\nrefresh: 0; url=https://example.azurecr.io/elsewhere\r\n\r\n",
        ),
    ] {
        let (address, connections) = start(Server::Writes(text), authority.server_config(HOST, false)).await;
        let answer = ask(address, Some(authority.0.pem())).await.unwrap();
        assert_eq!(
            (answer.status().as_u16(), connections.load(Ordering::SeqCst)),
            (status, 1)
        );
    }
}

/// Whatever goes wrong above, bytes leave for the registries of the configuration only.
#[tokio::test]
async fn e1_request_for_a_host_outside_of_the_fence_is_not_sent() {
    let authority = Authority::new();
    let answer = Server::Writes("HTTP/1.1 200 Ok\r\ncontent-length: 0\r\n\r\n");
    let (address, connections) = start(answer, authority.server_config(HOST, false)).await;
    // All names lead to the server, also those that no rule of the operator's names.
    let egress = EgressConfig {
        host_overrides: Vec::new(),
        ..egress(address, Some(authority.0.pem()))
    };
    let transport = HttpTransport::with_names(&egress, fence(), Arc::new(Liar(address))).unwrap();
    for url in [
        "https://evil.example/oauth2/token".to_owned(),
        format!("https://{HOST}.evil.example/oauth2/token"),
        format!("https://{HOST}@evil.example/oauth2/token"),
        format!("https://evil@{HOST}/oauth2/token"),
        format!("https://{HOST}:444/oauth2/token"),
        format!("https://{HOST}./oauth2/token"),
        format!("http://{HOST}/oauth2/token"),
        format!("https://{address}/oauth2/token"),
        "https://azurecr.io/oauth2/token".to_owned(),
        "https://evilazurecr.io/oauth2/token".to_owned(),
        "https://example.azurecr.us/oauth2/token".to_owned(),
        "/oauth2/token".to_owned(),
    ] {
        for endpoint in [Endpoint::Exchange, Endpoint::Token] {
            let sent = transport.exchange(endpoint, request_to(&url)).await;
            assert_eq!(sent.err(), Some(TransportError::ForbiddenHost), "{url}");
        }
    }
    assert_eq!(connections.load(Ordering::SeqCst), 0);
}

/// A resolver that says of every name that it is one machine.
struct Liar(SocketAddr);

#[async_trait::async_trait]
impl NameService for Liar {
    async fn lookup(&self, _name: &str) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![self.0])
    }
}

#[tokio::test]
async fn e1_registry_whose_name_leads_to_this_machine_gets_no_connection() {
    let authority = Authority::new();
    let answer = Server::Writes("HTTP/1.1 200 Ok\r\ncontent-length: 0\r\n\r\n");
    let (address, connections) = start(answer, authority.server_config(HOST, false)).await;
    let no_overrides = EgressConfig {
        host_overrides: Vec::new(),
        ..egress(address, Some(authority.0.pem()))
    };
    let transport = HttpTransport::with_names(&no_overrides, fence(), Arc::new(Liar(address))).unwrap();
    let url = format!("https://{HOST}/oauth2/exchange");
    let sent = transport.exchange(Endpoint::Exchange, request_to(&url)).await;
    assert_eq!(sent.err(), Some(TransportError::ForbiddenAddress));
    assert_eq!(connections.load(Ordering::SeqCst), 0);
    // The same machine, where the operator has said so.
    let overridden = egress(address, Some(authority.0.pem()));
    let transport = HttpTransport::with_names(&overridden, fence(), Arc::new(Liar(address))).unwrap();
    let sent = transport.exchange(Endpoint::Exchange, request_to(&url)).await;
    assert_eq!(sent.unwrap().status().as_u16(), 200);
}

#[tokio::test]
async fn e3_answer_has_bounds() {
    for (server, error) in [
        (
            Server::WritesLong {
                header: 8 * 1024,
                body: MAX_BODY_BYTES,
            },
            None,
        ),
        (
            Server::WritesLong {
                header: 8,
                body: MAX_BODY_BYTES + 1,
            },
            Some(TransportError::Oversized(Part::Body)),
        ),
        (
            Server::WritesLong {
                header: 20 * 1024,
                body: 0,
            },
            Some(TransportError::Oversized(Part::Headers)),
        ),
    ] {
        assert_eq!(answer_of(server).await.err(), error);
    }
}

#[tokio::test]
async fn l2_body_is_read_into_memory_that_never_moves() {
    let answer = answer_of(Server::WritesLong {
        header: 8,
        body: 50_000,
    });
    assert_eq!(answer.await.unwrap().body().capacity(), 50_000);
    let unannounced = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let answer = answer_of(Server::Writes(unannounced)).await.unwrap();
    assert_eq!(answer.body().as_slice(), b"{}");
    assert_eq!(answer.body().capacity(), MAX_BODY_BYTES);
}

#[tokio::test]
async fn transport_keeps_the_status_of_a_refusal_that_breaks_off() {
    let refusal = "HTTP/1.1 503 No\r\nretry-after: 7\r\ncontent-length: 100\r\n\r\npart";
    let answer = answer_of(Server::Writes(refusal)).await.unwrap();
    assert_eq!((answer.status().as_u16(), answer.body().len()), (503, 0));
    let success = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
    assert_eq!(
        answer_of(Server::Writes(success)).await.err(),
        Some(TransportError::Broken)
    );
    assert_eq!(
        answer_of(Server::Writes("nonsense")).await.err(),
        Some(TransportError::Broken)
    );
}

#[tokio::test]
async fn transport_without_a_listener_finds_no_connection() {
    let address = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(ask(address, None).await.err(), Some(TransportError::Connect));
}

#[tokio::test]
async fn transport_connection_has_five_seconds() {
    let hung = answer_of(Server::HangsAtOnce).await;
    assert_eq!(hung.err(), Some(TransportError::Timeout(Stage::Connect)));
}

#[tokio::test]
async fn transport_headers_have_ten_seconds() {
    let hung = answer_of(Server::HangsAfter("")).await;
    assert_eq!(hung.err(), Some(TransportError::Timeout(Stage::Headers)));
}

#[tokio::test]
async fn transport_headers_that_break_off_have_ten_seconds() {
    let hung = answer_of(Server::HangsAfter("HTTP/1.1 200 OK\r\nx-")).await;
    assert_eq!(hung.err(), Some(TransportError::Timeout(Stage::Headers)));
}

#[tokio::test]
async fn transport_body_has_five_seconds() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\npart";
    let hung = answer_of(Server::HangsAfter(head)).await;
    assert_eq!(hung.err(), Some(TransportError::Timeout(Stage::Body)));
}
