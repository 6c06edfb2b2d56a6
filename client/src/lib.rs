//! The Rust client of the broker.
//!
//! One channel, opened when first used; the caller's token read again from its file as the kubelet renews it; every
//! call with a deadline, one retry when a replica is gone, and the current trace continued in the broker.

mod error;
mod token_file;

use std::{path::PathBuf, time::Duration};

use proto::v1::{
    GetDockerConfigRequest, GetDockerConfigResponse, credential_service_client::CredentialServiceClient,
};
use runtime::telemetry::propagation;
use tokio::time::Instant;
use tonic::{
    Code, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Uri},
};
use tracing::Instrument as _;

pub use error::{BrokerError, ClientError};
use token_file::TokenFile;

/// The longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest wait for an answer; the broker itself gives up after 30 s.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A replica that vanished without a word is noticed after this much silence (guarantee R2) ...
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(10);
/// ... and this much patience.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// How to reach the broker and as whom.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// `https://host:port`.
    pub address: String,
    /// Roots that the broker's certificate must chain to; the system's roots when absent.
    pub ca_file: Option<PathBuf>,
    /// File with the caller's ServiceAccount token, issued for the broker's audience.
    pub token_file: PathBuf,
}

/// A connection to the broker. Cheap to clone; clones share the channel.
#[derive(Debug, Clone)]
pub struct BrokerClient {
    service: CredentialServiceClient<Channel>,
    token: TokenFile,
}

impl BrokerClient {
    /// Prepares the client. Nothing is sent before the first call; must run inside an async runtime.
    ///
    /// # Errors
    /// The address is no https address, or the CA file cannot be used.
    pub fn new(options: &ClientOptions) -> Result<Self, ClientError> {
        let address = || options.address.clone();
        let uri: Uri = options.address.parse().map_err(|source| ClientError::Address {
            address: address(),
            source,
        })?;
        // A token must not travel in the clear, so there is no way to say http.
        if uri.scheme_str() != Some("https") || uri.host().is_none() {
            return Err(ClientError::NotHttps { address: address() });
        }
        let mut tls = ClientTlsConfig::new();
        tls = match &options.ca_file {
            Some(path) => {
                runtime::tls::load_certificates(path).map_err(ClientError::Ca)?;
                let pem = std::fs::read(path).map_err(|source| ClientError::CaFile {
                    path: path.display().to_string(),
                    source,
                })?;
                tls.ca_certificate(Certificate::from_pem(pem))
            }
            None => tls.with_native_roots(),
        };
        let channel = Endpoint::from(uri)
            .tls_config(tls)
            .map_err(ClientError::Tls)?
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .user_agent(concat!("acrpull-client/", env!("CARGO_PKG_VERSION")))
            .map_err(ClientError::Tls)?
            .connect_lazy();
        let service = CredentialServiceClient::new(channel)
            .max_decoding_message_size(proto::MAX_MESSAGE_BYTES)
            .max_encoding_message_size(proto::MAX_MESSAGE_BYTES);
        Ok(Self {
            service,
            token: TokenFile::new(options.token_file.clone()),
        })
    }

    /// Asks for the content of a pull Secret.
    ///
    /// # Errors
    /// The broker refused or failed ([`BrokerError::reason`] says why), or could not be reached.
    ///
    /// # Cancel safety
    /// Cancel safe: the broker finishes the work for others, the answer is lost.
    pub async fn get_docker_config(
        &self,
        message: GetDockerConfigRequest,
    ) -> Result<GetDockerConfigResponse, BrokerError> {
        let span = tracing::info_span!(
            "acrpull.broker.v1.CredentialService/GetDockerConfig",
            otel.kind = "client",
            rpc.system.name = "grpc",
            rpc.response.status_code = tracing::field::Empty,
        );
        async {
            let deadline = Instant::now() + CALL_TIMEOUT;
            let result = match self.call_once(message.clone()).await {
                // The connection broke before a replica answered; the next one may land on another.
                Err(status) if is_lost_replica(&status) && Instant::now() < deadline => {
                    self.call_once(message).await
                }
                result => result,
            };
            let code = result.as_ref().map_or_else(Status::code, |_response| Code::Ok);
            tracing::Span::current().record("rpc.response.status_code", i32::from(code));
            result.map_err(|status| BrokerError::from_status(&status))
        }
        .instrument(span)
        .await
    }

    async fn call_once(&self, message: GetDockerConfigRequest) -> Result<GetDockerConfigResponse, Status> {
        let mut request = Request::new(message);
        request
            .metadata_mut()
            .insert("authorization", self.token.bearer().await?);
        request.set_timeout(CALL_TIMEOUT);
        propagation::inject_current(request.metadata_mut().as_mut());
        self.service
            .clone()
            .get_docker_config(request)
            .await
            .map(tonic::Response::into_inner)
    }
}

/// A failure that no broker said (its own answers carry a reason): no connection, one that broke in the middle, or one
/// that was being closed. The call is idempotent, so it is safe to repeat whatever became of it.
fn is_lost_replica(status: &Status) -> bool {
    let is_transport = matches!(
        status.code(),
        Code::Unavailable | Code::Unknown | Code::Internal | Code::Cancelled
    );
    is_transport && error::reason_of(status).is_none()
}
