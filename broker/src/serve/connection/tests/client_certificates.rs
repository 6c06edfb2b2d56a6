//! Callers with and without certificates, from the handshake to the answer of the real router, over both wires.

use std::path::Path;

use hyper_util::rt::TokioExecutor;
use runtime::{
    file_watch::POLL_PERIOD,
    tls::server::{ClientAuth, ServerTls, TlsVersion},
};
use rustls::{ClientConfig, ProtocolVersion, pki_types::ServerName, version::TLS12};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::Status;
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    serve::Certificate,
    test_scene::{
        ALL_VERSIONS, Authority, HOST, Issued, SYNCER, Scene as Api, Shape, granted_request, snapshot, token,
    },
};

const NAME: &str = "east.syncers.example";
const URI: &str = "spiffe://fleet/east";
const GRPC: &str = "/acrpull.broker.v1.CredentialService/GetDockerConfig";
const HTTP: &str = "/v1/docker-config";

/// East is bound to [`NAME`] and [`URI`].
const BOUND: Shape = Shape {
    east_certificates: &[NAME, URI],
    ..Shape::WHOLE
};

/// A listener with files on disk, in front of the real service.
struct Listener {
    api: Api,
    scene: Scene,
    authority: Authority,
    certificate: Certificate,
    folder: tempfile::TempDir,
}

/// How a request of the syncer of east went: `Err` where there was no connection.
type Outcome = Result<String, ()>;

impl Listener {
    async fn new(clients: fn(std::path::PathBuf) -> ClientAuth, min_version: TlsVersion) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name);
        let authority = Authority::new("fleet");
        let served = authority.server(HOST);
        let tls = ServerTls {
            cert: file("tls.crt"),
            key: file("tls.key"),
            clients: clients(file("ca.crt")),
            min_version,
        };
        write(&tls.cert, &served.pem);
        write(&tls.key, &served.key_pem);
        write(&file("ca.crt"), &authority.pem());
        let (certificate, noted) = Certificate::load(tls).unwrap();
        let api = Api::new().await;
        api.live.replace(snapshot(BOUND));
        let mut scene = Scene::new();
        let terms = Arc::get_mut(&mut scene.terms).unwrap();
        terms.router = api.router.clone();
        scene.seats = Seats::new(64, terms.metrics.clone());
        spawn_detached(certificate.clone().follow(noted, terms.shutdown.clone()));
        Self {
            api,
            scene,
            authority,
            certificate,
            folder,
        }
    }

    async fn requiring() -> Self {
        Self::new(ClientAuth::Require, TlsVersion::Tls13).await
    }

    async fn connect(&mut self, config: Arc<ClientConfig>) -> io::Result<TlsStream<DuplexStream>> {
        let (ours, theirs) = tokio::io::duplex(256 * 1024);
        let seat = self.scene.seats.take().await.unwrap();
        let terms = Arc::clone(&self.scene.terms);
        spawn_detached(serve(theirs, self.certificate.current(), seat, AGE, terms));
        TlsConnector::from(config)
            .connect(ServerName::try_from(HOST).unwrap(), ours)
            .await
    }

    async fn caller(&mut self, certificate: Option<&Issued>) -> Result<Caller, ()> {
        let config = self.authority.caller(certificate, ALL_VERSIONS);
        let stream = self.connect(config).await.map_err(drop)?;
        let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(drop)?;
        spawn_detached(connection);
        Ok(Caller(requests))
    }

    /// What the syncer of east gets over each wire, on one connection.
    async fn ask(&mut self, certificate: Option<&Issued>) -> [Outcome; 2] {
        match self.caller(certificate).await {
            Ok(mut caller) => [caller.over_grpc().await, caller.over_http().await],
            Err(()) => [Err(()), Err(())],
        }
    }

    fn failures(&self, reason: &str) -> usize {
        let line = format!("tls_handshake_failures_total{{reason=\"{reason}\"}} ");
        let metrics = self.scene.metrics();
        let count = metrics.lines().find_map(|found| found.split_once(&line));
        count.map_or(0, |(_name, count)| count.parse().unwrap())
    }

    fn replace(&self, name: &str, content: &str) {
        write(&self.folder.path().join(name), content);
    }
}

/// A connection; each request is one of the syncer of east.
struct Caller(http2::SendRequest<Body>);

impl Caller {
    async fn over_http(&mut self) -> Outcome {
        let request = Request::post(format!("https://{HOST}{HTTP}"))
            .header("content-type", "application/json")
            .header("authorization", format!("Bearer {}", token(SYNCER)))
            .body(Body::from(granted_request().to_string()))
            .unwrap();
        let response = self.0.send_request(request).await.map_err(drop)?;
        let body = Body::new(response.into_body());
        let body = axum::body::to_bytes(body, 64 * 1024).await.map_err(drop)?;
        let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
        Ok(answer["detail"].as_str().unwrap_or("ok").to_owned())
    }

    async fn over_grpc(&mut self) -> Outcome {
        let message: proto::v1::GetDockerConfigRequest = serde_json::from_value(granted_request()).unwrap();
        let message = prost::Message::encode_to_vec(&message);
        let length = u32::try_from(message.len()).unwrap().to_be_bytes();
        let request = Request::post(format!("https://{HOST}{GRPC}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("authorization", format!("Bearer {}", token(SYNCER)))
            .body(Body::from([&[0][..], &length, &message].concat()))
            .unwrap();
        let response = self.0.send_request(request).await.map_err(drop)?;
        let Some(status) = Status::from_header_map(response.headers()) else {
            return Ok("ok".to_owned());
        };
        assert_eq!(
            status.get_details_error_info().unwrap().reason,
            "CALLER_UNAUTHENTICATED"
        );
        Ok(status.message().to_owned())
    }
}

fn write(path: &Path, content: &str) {
    std::fs::write(path, content).unwrap();
}

fn ok() -> [Outcome; 2] {
    [Ok("ok".to_owned()), Ok("ok".to_owned())]
}

fn refused(text: &str) -> [Outcome; 2] {
    [Ok(text.to_owned()), Ok(text.to_owned())]
}

const NO_CONNECTION: [Outcome; 2] = [Err(()), Err(())];

#[tokio::test]
async fn a1_good_token_without_the_certificate_of_its_cluster_is_refused_over_both_wires() {
    let mut listener = Listener::requiring().await;
    let other = listener.authority.client("west.syncers.example");
    let refusal = r#"the client certificate of the caller's connection is for west.syncers.example, which is not one of cluster "east""#;
    assert_eq!(listener.ask(Some(&other)).await, refused(refusal));
    let longer = listener.authority.client("x.east.syncers.example");
    assert_ne!(listener.ask(Some(&longer)).await, ok());
    // A wildcard names everybody, and so nobody.
    let wildcard = listener.authority.client("*.syncers.example");
    assert_ne!(listener.ask(Some(&wildcard)).await, ok());
    assert_eq!(listener.api.azure.calls(), 0, "nothing is fetched for it");

    for name in [NAME, URI, "EAST.syncers.example"] {
        let own = listener.authority.client(name);
        assert_eq!(listener.ask(Some(&own)).await, ok(), "{name}");
    }
    // On a hit as on a miss.
    assert_eq!(listener.ask(Some(&other)).await, refused(refusal));
}

#[tokio::test]
async fn a1_certificate_that_is_not_good_makes_no_connection() {
    let mut listener = Listener::requiring().await;
    let authority = &listener.authority;
    let bad = [
        ("of another authority", Authority::new("fleet").client(NAME)),
        ("expired", authority.expired_client(NAME)),
        ("for servers", authority.server(NAME)),
    ];
    for (index, (what, certificate)) in bad.iter().enumerate() {
        assert_eq!(listener.ask(Some(certificate)).await, NO_CONNECTION, "{what}");
        assert_eq!(listener.failures("client_certificate"), index + 1, "{what}");
    }
    assert_eq!(listener.ask(None).await, NO_CONNECTION);
    assert_eq!(listener.failures("no_client_certificate"), 1);
}

#[tokio::test]
async fn a1_requested_certificate_is_good_or_absent() {
    let mut listener = Listener::new(ClientAuth::Request, TlsVersion::Tls13).await;
    let anonymous =
        r#"cluster "east" is called with a client certificate, and the caller's connection has none"#;
    assert_eq!(listener.ask(None).await, refused(anonymous));
    let expired = listener.authority.expired_client(NAME);
    assert_eq!(listener.ask(Some(&expired)).await, NO_CONNECTION);
    let own = listener.authority.client(NAME);
    assert_eq!(listener.ask(Some(&own)).await, ok());

    // A cluster that is bound to nothing does not care.
    listener.api.live.replace(snapshot(Shape::WHOLE));
    assert_eq!(listener.ask(None).await, ok());
    let other = listener.authority.client("west.syncers.example");
    assert_eq!(listener.ask(Some(&other)).await, ok());
}

#[tokio::test]
async fn a6_cluster_that_is_bound_anew_counts_for_connections_that_are_open() {
    let mut listener = Listener::requiring().await;
    listener.api.live.replace(snapshot(Shape::WHOLE));
    let other = listener.authority.client("west.syncers.example");
    let mut caller = listener.caller(Some(&other)).await.unwrap();
    assert_eq!(caller.over_grpc().await, Ok("ok".to_owned()));
    listener.api.live.replace(snapshot(BOUND));
    assert_ne!(caller.over_grpc().await, Ok("ok".to_owned()));
    assert_ne!(caller.over_http().await, Ok("ok".to_owned()));
}

#[tokio::test]
async fn authority_that_is_replaced_counts_for_the_next_connection_and_disturbs_none() {
    let mut listener = Listener::requiring().await;
    let next = Authority::new("next");
    let (old, new) = (listener.authority.client(NAME), next.client(NAME));
    let mut open = listener.caller(Some(&old)).await.unwrap();
    assert_eq!(listener.ask(Some(&new)).await, NO_CONNECTION);

    // Half a file is not taken, and does not take away what was there.
    listener.replace("ca.crt", "-----BEGIN CERTIFICATE-----\nAAAA");
    sleep(POLL_PERIOD + GRAIN).await;
    assert_eq!(listener.ask(Some(&old)).await, ok());

    listener.replace("ca.crt", &next.pem());
    let replaced = async {
        while listener.ask(Some(&new)).await != ok() {
            assert_eq!(open.over_grpc().await, Ok("ok".to_owned()));
            sleep(GRAIN).await;
        }
    };
    timeout(POLL_PERIOD * 5, replaced).await.unwrap();
    assert_eq!(listener.ask(Some(&old)).await, NO_CONNECTION);
    assert_eq!(open.over_http().await, Ok("ok".to_owned()));
}

#[tokio::test]
async fn tls_1_2_is_refused_unless_it_is_allowed_and_never_preferred() {
    let mut strict = Listener::new(|_ca| ClientAuth::None, TlsVersion::Tls13).await;
    let old = strict.authority.caller(None, &[&TLS12]);
    let error = strict.connect(old).await.unwrap_err();
    assert!(error.to_string().contains("ProtocolVersion"), "{error}");
    tokio::task::yield_now().await;
    assert_eq!(strict.failures("incompatible"), 1);

    let mut lenient = Listener::new(ClientAuth::Require, TlsVersion::Tls12).await;
    let own = lenient.authority.client(NAME);
    for (versions, spoken) in [
        (&[&TLS12][..], ProtocolVersion::TLSv1_2),
        (ALL_VERSIONS, ProtocolVersion::TLSv1_3),
    ] {
        let caller = lenient.authority.caller(Some(&own), versions);
        let stream = lenient.connect(caller).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
    }
    // Over the older one, certificates are verified just the same.
    let anonymous = lenient.authority.caller(None, &[&TLS12]);
    assert!(lenient.connect(anonymous).await.is_err());
}
