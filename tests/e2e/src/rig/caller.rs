//! Asking a broker over gRPC, as itself: no retry, no balancing, so that what it answers is what the test sees.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use proto::v1::credential_service_client::CredentialServiceClient;
use proto::v1::{GetDockerConfigRequest, GetDockerConfigResponse};
use proto::{ERROR_DOMAIN, Reason};
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};
use tonic_types::StatusExt as _;

use super::Broker;

/// More than the broker ever takes for an answer.
const TIMEOUT: Duration = Duration::from_secs(35);

/// A credential, or the broker's own words for why there is none.
pub type Answer = Result<GetDockerConfigResponse, Refusal>;

/// Why there is no credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// From the catalogue.
    pub reason: Reason,
    /// The public text.
    pub message: String,
    /// When to ask again.
    pub retry_after: Option<Duration>,
}

/// A connection to one broker with the syncer's token.
#[derive(Clone)]
pub struct Caller {
    service: CredentialServiceClient<Channel>,
    bearer: MetadataValue<Ascii>,
}

impl Caller {
    pub(super) fn new(broker: &Broker, ca_pem: &str, bearer: &str) -> anyhow::Result<Self> {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca_pem));
        let channel = Endpoint::from_shared(format!("https://{}", broker.address()))?
            .tls_config(tls)?
            .timeout(TIMEOUT)
            .connect_lazy();
        Ok(Self {
            service: CredentialServiceClient::new(channel),
            bearer: format!("Bearer {bearer}")
                .parse()
                .context("the token is no header")?,
        })
    }

    /// Asks once.
    ///
    /// # Errors
    /// The broker was not reached, or answers with something that is not in its contract.
    pub async fn ask(&self, request: &GetDockerConfigRequest) -> anyhow::Result<Answer> {
        let mut request = Request::new(request.clone());
        request
            .metadata_mut()
            .insert("authorization", self.bearer.clone());
        match self.service.clone().get_docker_config(request).await {
            Ok(response) => Ok(Ok(response.into_inner())),
            Err(status) => refusal(&status).map(Err),
        }
    }
}

fn refusal(status: &Status) -> anyhow::Result<Refusal> {
    let info = status.get_details_error_info();
    let info =
        info.with_context(|| format!("{:?} without ErrorInfo: {}", status.code(), status.message()))?;
    ensure!(info.domain == ERROR_DOMAIN, "the error is of {}", info.domain);
    let reason = Reason::from_wire(&info.reason)
        .with_context(|| format!("{} is not in the catalogue", info.reason))?;
    ensure!(
        reason.grpc_code() == status.code(),
        "{reason:?} came with {:?}",
        status.code()
    );
    Ok(Refusal {
        reason,
        message: status.message().to_owned(),
        retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
    })
}
