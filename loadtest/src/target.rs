//! A server under load: the broker or the echo, over gRPC and over HTTP JSON. Asks one question and reads the answer;
//! how many at a time is `load`'s business.

use std::future::Future;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use e2e::Stack;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use proto::v1::credential_service_client::CredentialServiceClient;
use proto::v1::{GetDockerConfigRequest, GetDockerConfigResponse};
use tonic::Request;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};

use crate::questions::Question;
use crate::tokens::caller_token;

/// Connections over which the load is spread: a few, as from a few clusters.
const CONNECTIONS: usize = 4;

/// The longest wait for one answer: a little more than the broker lets anybody wait.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(35);

/// Questions that are asked at a time where only the answers matter.
const LEARNING: usize = 32;

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
    /// The broker of a stack, asked by the syncer's ServiceAccount.
    ///
    /// # Errors
    /// It is stopped, or the API server grants no token.
    pub(crate) async fn broker(stack: &Stack) -> anyhow::Result<Self> {
        let pid = stack.broker().pid().context("the broker is stopped")?;
        let token = caller_token(stack).await?;
        Self::new(pid, &stack.broker_url()?, stack.broker_ca_pem(), &token)
    }

    /// Prepares connections; each is made with its first question.
    ///
    /// # Errors
    /// The URL, the certificate or the token cannot be used.
    pub(crate) fn new(pid: u32, url: &str, ca_pem: &str, caller_token: &str) -> anyhow::Result<Self> {
        let grpc = (0..CONNECTIONS).map(|_| GrpcConnection::new(url, ca_pem, caller_token));
        let http = (0..CONNECTIONS).map(|_| HttpConnection::new(url, ca_pem, caller_token));
        Ok(Self {
            pid,
            grpc: grpc.collect::<Result<_, _>>()?,
            http: http.collect::<Result<_, _>>()?,
        })
    }
}

/// Asks each question once, which fills the broker's caches, and notes the payloads. Returns the answers.
///
/// # Errors
/// One is refused.
pub(crate) async fn learn(
    broker: &Target,
    questions: &mut [Question],
) -> anyhow::Result<Vec<GetDockerConfigResponse>> {
    let connection = broker.grpc.first().context("there is no connection")?;
    let asked: Vec<_> = questions
        .iter()
        .map(|question| connection.ask(question.message.clone()))
        .collect();
    let answers: Vec<_> = stream::iter(asked).buffered(LEARNING).try_collect().await?;
    for (question, answer) in questions.iter_mut().zip(&answers) {
        question.payload = answer.docker_config_json.clone();
    }
    Ok(answers)
}

impl GrpcConnection {
    /// Prepares a connection; it is made with its first question.
    ///
    /// # Errors
    /// The URL, the certificate or the token cannot be used.
    pub(crate) fn new(url: &str, ca_pem: &str, caller_token: &str) -> anyhow::Result<Self> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        let channel = Endpoint::from_shared(url.to_owned())?
            .tls_config(tls)?
            .timeout(ANSWER_TIMEOUT)
            .connect_lazy();
        let bearer = format!("Bearer {caller_token}");
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
    fn new(url: &str, ca_pem: &str, caller_token: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .timeout(ANSWER_TIMEOUT)
            .no_proxy()
            .tls_certs_only([reqwest::Certificate::from_pem(ca_pem.as_bytes())?])
            .build()?;
        Ok(Self {
            client,
            url: format!("{url}/v1/docker-config"),
            bearer: format!("Bearer {caller_token}"),
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
