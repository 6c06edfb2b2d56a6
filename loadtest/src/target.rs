//! A server under load: the broker or the echo, over gRPC and over HTTP JSON. Asks one question and reads the answer;
//! how many at a time is `load`'s business.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use proto::v1::credential_service_client::CredentialServiceClient;
use proto::v1::{GetDockerConfigRequest, GetDockerConfigResponse};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

/// Connections over which the load is spread: a few, as from a few clusters.
const CONNECTIONS: usize = 4;

/// The longest wait for one answer. A hit that takes that long has found a fault.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Something that can be asked.
pub(crate) trait Ask: Clone + Send + Sync + 'static {
    /// Asks, and returns the answer as it is.
    fn ask(
        &self,
        message: GetDockerConfigRequest,
    ) -> impl Future<Output = anyhow::Result<GetDockerConfigResponse>> + Send;
}

/// A server, with the connections to it.
pub(crate) struct Target {
    pub(crate) pid: u32,
    pub(crate) grpc: Vec<GrpcConnection>,
    pub(crate) http: Vec<HttpConnection>,
}

/// A gRPC connection with the caller's token.
#[derive(Clone)]
pub(crate) struct GrpcConnection {
    service: CredentialServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
}

/// An HTTP/2 connection with the caller's token.
#[derive(Clone)]
pub(crate) struct HttpConnection {
    client: reqwest::Client,
    url: String,
    bearer: String,
}

impl Target {
    /// Prepares connections; each is made with its first question.
    ///
    /// # Errors
    /// The URL, the certificate or the token cannot be used.
    pub(crate) fn new(pid: u32, url: &str, ca_pem: &str, caller_token: &str) -> anyhow::Result<Self> {
        let bearer = format!("Bearer {caller_token}");
        let grpc = (0..CONNECTIONS).map(|_| GrpcConnection::new(url, ca_pem, &bearer));
        let http = (0..CONNECTIONS).map(|_| HttpConnection::new(url, ca_pem, &bearer));
        Ok(Self {
            pid,
            grpc: grpc.collect::<Result<_, _>>()?,
            http: http.collect::<Result<_, _>>()?,
        })
    }
}

impl GrpcConnection {
    fn new(url: &str, ca_pem: &str, bearer: &str) -> anyhow::Result<Self> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        let channel = Endpoint::from_shared(url.to_owned())?
            .tls_config(tls)?
            .timeout(ANSWER_TIMEOUT)
            .connect_lazy();
        let bearer = bearer.parse().context("the caller's token is not ASCII")?;
        Ok(Self {
            service: CredentialServiceClient::new(channel),
            bearer,
        })
    }
}

impl Ask for GrpcConnection {
    async fn ask(&self, message: GetDockerConfigRequest) -> anyhow::Result<GetDockerConfigResponse> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.bearer.clone());
        let answer = self.service.clone().get_docker_config(request).await;
        Ok(answer.context("the server refused over gRPC")?.into_inner())
    }
}

impl HttpConnection {
    fn new(url: &str, ca_pem: &str, bearer: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_TIMEOUT)
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(ca_pem.as_bytes())?])
            .build()?;
        Ok(Self {
            client,
            url: format!("{url}/v1/docker-config"),
            bearer: bearer.to_owned(),
        })
    }
}

impl Ask for HttpConnection {
    async fn ask(&self, message: GetDockerConfigRequest) -> anyhow::Result<GetDockerConfigResponse> {
        let request = self
            .client
            .post(&self.url)
            .header("authorization", &self.bearer)
            .json(&message);
        let answer = request
            .send()
            .await
            .context("the server did not answer over HTTP")?;
        let (status, version) = (answer.status(), answer.version());
        let body: Bytes = answer.bytes().await.context("the server's answer broke off")?;
        ensure!(
            status.is_success(),
            "the server refused over HTTP: {status} {}",
            String::from_utf8_lossy(&body)
        );
        // Both servers must be asked in the same way for the comparison to mean anything.
        ensure!(
            version == reqwest::Version::HTTP_2,
            "the server speaks {version:?}"
        );
        serde_json::from_slice(&body).context("the server's answer is not understood")
    }
}
