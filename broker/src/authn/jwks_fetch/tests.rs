//! A real server on loopback: whom keys are taken from, who is shown the token, and that nothing is without a bound. That the
//! system's roots do not count beside a bundle is seen from outside of the process: `tests/program/key_roots.rs`.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use runtime::tasks::spawn_detached;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use super::{super::test_keys::Signer, *};
use crate::config::CaBundle;

/// What the server does once it has read a request.
#[derive(Clone)]
enum Server {
    /// Writes this and closes.
    Writes(String),
    /// Writes one byte a second of a body that never ends.
    Trickles(Arc<AtomicUsize>),
}

/// A server with its address, and the requests that it has read.
struct Running {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

struct Authority(CertifiedIssuer<'static, KeyPair>);

/// The files of a source of keys.
struct Files(TempDir);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    async fn serve(&self, server: Server) -> Running {
        self.serve_as("127.0.0.1", server).await
    }

    /// With a certificate for `name`.
    async fn serve_as(&self, name: &str, server: Server) -> Running {
        let acceptor = TlsAcceptor::from(self.server_config(name));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        drop(spawn_detached(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(socket).await else {
                    continue;
                };
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    let byte = stream.read_u8().await.unwrap();
                    request.push(byte);
                }
                seen.lock().unwrap().push(String::from_utf8(request).unwrap());
                match &server {
                    // A client that has seen enough closes first.
                    Server::Writes(answer) => drop(stream.write_all(answer.as_bytes()).await),
                    Server::Trickles(written) => {
                        let head = b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n";
                        stream.write_all(head).await.unwrap();
                        stream.flush().await.unwrap();
                        tokio::time::pause();
                        while stream.write_all(b" ").await.is_ok() && stream.flush().await.is_ok() {
                            written.fetch_add(1, Ordering::SeqCst);
                            tokio::time::sleep(Duration::from_secs(1)).await;
                        }
                    }
                }
                drop(stream.shutdown().await);
            }
        }));
        Running { address, requests }
    }

    fn server_config(&self, name: &str) -> Arc<ServerConfig> {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let config = ServerConfig::builder_with_provider(runtime::tls::crypto_provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        Arc::new(config)
    }
}

impl Files {
    fn new(authority: &Authority, token: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        files.write(&authority.0.pem(), token);
        files
    }

    fn write(&self, bundle: &str, token: &str) {
        fs::write(self.path("ca.pem"), bundle).unwrap();
        fs::write(self.path("token"), token).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    async fn fetch(&self, server: &Running) -> Result<KeySet, FetchError> {
        fetch(&JwksUrl {
            url: format!("https://{}/openid/v1/jwks", server.address)
                .parse()
                .unwrap(),
            ca_bundle: Some(CaBundle {
                path: self.path("ca.pem"),
                digest: [0; 32],
            }),
            token_file: Some(self.path("token")),
        })
        .await
    }
}

impl Running {
    /// The requests so far, without what a client sends by itself.
    fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    fn has_seen(&self, token: &str) -> bool {
        let header = format!("\r\nauthorization: Bearer {token}\r\n");
        self.requests().iter().any(|request| request.contains(&header))
    }
}

fn ok(body: &str) -> Server {
    let length = body.len();
    Server::Writes(format!(
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"
    ))
}

/// The one word that operators see.
fn word(fetched: Result<KeySet, FetchError>) -> &'static str {
    fetched.unwrap_err().as_str()
}

#[tokio::test]
async fn a7_keys_are_asked_for_as_an_api_server_wants_it_with_the_token_of_the_file() {
    let (authority, signer) = (Authority::new(), Signer::new("a"));
    let server = authority.serve(ok(&signer.jwks_text())).await;
    let files = Files::new(&authority, "first\n");
    assert!(files.fetch(&server).await.unwrap().same_keys(&signer.jwks()));
    let [request] = &server.requests()[..] else {
        panic!("one request")
    };
    assert!(
        request.starts_with("GET /openid/v1/jwks HTTP/1.1\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\naccept: application/jwk-set+json, */*;q=0.5\r\n"),
        "{request}"
    );
    assert!(server.has_seen("first"), "{request}");
}

#[tokio::test]
async fn e1_server_of_another_authority_or_name_is_neither_believed_nor_shown_the_token() {
    let (authority, stranger, signer) = (Authority::new(), Authority::new(), Signer::new("a"));
    let files = Files::new(&authority, "first");
    let keys = || ok(&signer.jwks_text());
    for server in [
        stranger.serve(keys()).await,
        authority.serve_as("127.0.0.2", keys()).await,
        authority.serve_as("api.example", keys()).await,
    ] {
        assert_eq!(word(files.fetch(&server).await), "no_answer");
        assert!(server.requests().is_empty());
    }
}

#[tokio::test]
async fn a7_bundle_and_token_are_read_again_for_each_fetch() {
    let (old, new, signer) = (Authority::new(), Authority::new(), Signer::new("a"));
    let before = old.serve(ok(&signer.jwks_text())).await;
    let after = new.serve(ok(&signer.jwks_text())).await;
    let files = Files::new(&old, "first");
    assert!(files.fetch(&before).await.is_ok());
    assert_eq!(word(files.fetch(&after).await), "no_answer");
    // First both, as one changes an authority, then the new one.
    files.write(&[old.0.pem(), new.0.pem()].concat(), "second");
    assert!(files.fetch(&before).await.is_ok() && files.fetch(&after).await.is_ok());
    files.write(&new.0.pem(), "third");
    assert!(files.fetch(&after).await.is_ok());
    assert_eq!(word(files.fetch(&before).await), "no_answer");
    assert!(["first", "second"].iter().all(|token| before.has_seen(token)) && !before.has_seen("third"));
    assert!(["second", "third"].iter().all(|token| after.has_seen(token)) && !after.has_seen("first"));
}

#[tokio::test]
async fn e1_bundle_without_a_certificate_is_no_bundle_and_not_none() {
    let (authority, signer) = (Authority::new(), Signer::new("a"));
    let server = authority.serve(ok(&signer.jwks_text())).await;
    let files = Files::new(&authority, "first");
    for bundle in [
        "",
        "nothing",
        "-----BEGIN CERTIFICATE-----\nbm9uZQ==\n-----END CERTIFICATE-----\n",
    ] {
        files.write(bundle, "first");
        assert_eq!(
            word(files.fetch(&server).await),
            "unusable_ca_bundle",
            "{bundle:?}"
        );
    }
    fs::remove_file(files.path("ca.pem")).unwrap();
    assert_eq!(word(files.fetch(&server).await), "unreadable_file");
    assert!(server.requests().is_empty());
}

#[tokio::test]
async fn e1_redirect_is_not_followed_and_takes_the_token_nowhere() {
    let (authority, signer) = (Authority::new(), Signer::new("a"));
    let elsewhere = authority.serve(ok(&signer.jwks_text())).await;
    let files = Files::new(&authority, "first");
    for status in [301, 302, 303, 307, 308] {
        let there = format!("https://{}/keys", elsewhere.address);
        let answer = format!("HTTP/1.1 {status} Go\r\nlocation: {there}\r\ncontent-length: 0\r\n\r\n");
        let server = authority.serve(Server::Writes(answer)).await;
        let fetched = files.fetch(&server).await;
        assert!(
            matches!(fetched, Err(FetchError::Status(found)) if found == status),
            "{fetched:?}"
        );
        assert_eq!(server.requests().len(), 1);
    }
    assert!(elsewhere.requests().is_empty());
}

#[tokio::test]
async fn a7_answer_without_keys_is_none() {
    let authority = Authority::new();
    let files = Files::new(&authority, "first");
    let forbidden = "HTTP/1.1 403 No\r\ncontent-length: 0\r\n\r\n".to_owned();
    for (server, expected) in [
        (Server::Writes(forbidden), "http_status"),
        (ok("{}"), "no_key_set"),
        (ok(r#"{"keys":[]}"#), "no_key_set"),
        (ok("<html>"), "no_key_set"),
        (
            Server::Writes("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{".to_owned()),
            "no_answer",
        ),
        (Server::Writes(String::new()), "no_answer"),
    ] {
        let server = authority.serve(server).await;
        assert_eq!(word(files.fetch(&server).await), expected);
    }
}

#[tokio::test]
async fn a7_answer_is_read_up_to_256_kib() {
    let (authority, signer) = (Authority::new(), Signer::new("a"));
    let files = Files::new(&authority, "first");
    let padded = |length: usize| {
        let text = signer.jwks_text();
        let padding = " ".repeat(length - text.len());
        text + &padding
    };
    let server = authority.serve(ok(&padded(MAX_JWKS_BYTES))).await;
    assert!(files.fetch(&server).await.is_ok());
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{}", padded(8 * MAX_JWKS_BYTES));
    for server in [ok(&padded(MAX_JWKS_BYTES + 1)), Server::Writes(endless)] {
        let server = authority.serve(server).await;
        assert_eq!(word(files.fetch(&server).await), "too_large");
    }
}

/// The clock is stopped once the answer has begun: from then on time passes as fast as nothing happens.
#[tokio::test]
async fn a7_answer_that_trickles_is_given_up_after_10_s() {
    let authority = Authority::new();
    let files = Files::new(&authority, "first");
    let written = Arc::new(AtomicUsize::new(0));
    let server = authority.serve(Server::Trickles(Arc::clone(&written))).await;
    let begun = Instant::now();
    let fetched = files.fetch(&server).await;
    let Err(FetchError::Request(error)) = fetched else {
        panic!("{fetched:?}")
    };
    assert!(error.is_timeout(), "{error:?}");
    let seconds = begun.elapsed().as_secs();
    assert_eq!(seconds, FETCH_TIMEOUT.as_secs());
    assert!(written.load(Ordering::SeqCst) > 1, "it went on for a while");
}
