//! Asking the broker directly, over either of its wires, with any token: as no honest client would.

use std::time::Duration;

use anyhow::{Context as _, anyhow};
use e2e::{ClientCertificate, Stack};
use proto::v1::credential_service_client::CredentialServiceClient;
use proto::v1::{
    BindingReference, BrokerOwnedIdentity, FederatedIdentity, GetDockerConfigRequest,
    GetDockerConfigResponse, broker_owned_identity::Selector, get_docker_config_request::Identity,
};
use serde_json::Value;
use tonic::transport::{self, Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic_types::StatusExt as _;

/// The broker itself gives up after 30 s.
const TIMEOUT: Duration = Duration::from_secs(35);

/// Both ways to the broker.
pub(crate) struct Wires {
    grpc: CredentialServiceClient<Channel>,
    http: reqwest::Client,
    url: String,
}

/// What the broker says: a payload, or the reason of the catalogue.
pub(crate) type Answer = Result<GetDockerConfigResponse, String>;

impl Wires {
    pub(crate) async fn to(stack: &Stack) -> anyhow::Result<Self> {
        Self::with(stack, None).await
    }

    /// The same, over connections that a certificate proves.
    pub(crate) async fn certified(stack: &Stack, own: &ClientCertificate) -> anyhow::Result<Self> {
        Self::with(stack, Some(own)).await
    }

    async fn with(stack: &Stack, own: Option<&ClientCertificate>) -> anyhow::Result<Self> {
        let url = stack.broker_url()?;
        let ca = stack.broker_ca_pem();
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        let mut http = reqwest::Client::builder();
        if let Some(own) = own {
            let identity = transport::Identity::from_pem(&own.certificate_pem, &own.key_pem);
            tls = tls.identity(identity);
            let both = [own.certificate_pem.as_bytes(), own.key_pem.as_bytes()].concat();
            http = http.identity(reqwest::Identity::from_pem(&both)?);
        }
        let channel = Endpoint::from_shared(url.clone())?
            .tls_config(tls)?
            .timeout(TIMEOUT)
            .connect()
            .await?;
        let http = http
            .tls_certs_only([reqwest::Certificate::from_pem(ca.as_bytes())?])
            .timeout(TIMEOUT)
            .no_proxy()
            .build()?;
        Ok(Self {
            grpc: CredentialServiceClient::new(channel),
            http,
            url,
        })
    }

    /// Asks over both, in this order. They must agree.
    pub(crate) async fn ask(
        &self,
        bearer: Option<&str>,
        request: &GetDockerConfigRequest,
    ) -> anyhow::Result<Answer> {
        let grpc = self.ask_grpc(bearer, request).await?;
        let http = self.ask_http(bearer, request).await?;
        let outcome = |answer: &Answer| {
            answer
                .as_ref()
                .map(|given| given.fingerprint.clone())
                .map_err(String::clone)
        };
        anyhow::ensure!(
            outcome(&grpc) == outcome(&http),
            "gRPC says {:?}, HTTP {:?}",
            outcome(&grpc),
            outcome(&http)
        );
        Ok(grpc)
    }

    async fn ask_grpc(
        &self,
        bearer: Option<&str>,
        request: &GetDockerConfigRequest,
    ) -> anyhow::Result<Answer> {
        let mut request = tonic::Request::new(request.clone());
        if let Some(token) = bearer {
            request
                .metadata_mut()
                .insert("authorization", format!("Bearer {token}").parse()?);
        }
        match self.grpc.clone().get_docker_config(request).await {
            Ok(response) => Ok(Ok(response.into_inner())),
            Err(status) => {
                let info = status.get_details_error_info();
                let info = info.with_context(|| {
                    format!("gRPC {:?} without ErrorInfo: {}", status.code(), status.message())
                })?;
                let reason = proto::Reason::from_wire(&info.reason);
                let reason = reason.with_context(|| format!("{} is not in the catalogue", info.reason))?;
                anyhow::ensure!(
                    reason.grpc_code() == status.code(),
                    "{} came with {:?}",
                    info.reason,
                    status.code()
                );
                Ok(Err(info.reason))
            }
        }
    }

    async fn ask_http(
        &self,
        bearer: Option<&str>,
        request: &GetDockerConfigRequest,
    ) -> anyhow::Result<Answer> {
        let mut post = self
            .http
            .post(format!("{}/v1/docker-config", self.url))
            .json(request);
        if let Some(token) = bearer {
            post = post.bearer_auth(token);
        }
        let answer = post.send().await?;
        let status = answer.status().as_u16();
        let is_stored = answer
            .headers()
            .get("cache-control")
            .is_none_or(|value| value != "no-store");
        anyhow::ensure!(!is_stored, "the answer may be stored on the way");
        if status == 200 {
            return Ok(Ok(answer.json().await?));
        }
        let problem: Value = answer.json().await?;
        let reason = problem.get("reason").and_then(Value::as_str);
        let reason = reason.ok_or_else(|| anyhow!("HTTP {status} without a reason: {problem}"))?;
        let known =
            proto::Reason::from_wire(reason).with_context(|| format!("{reason} is not in the catalogue"))?;
        anyhow::ensure!(known.http_status() == status, "{reason} came with HTTP {status}");
        Ok(Err(reason.to_owned()))
    }
}

/// A request for a federated identity.
pub(crate) fn federated(
    namespace: &str,
    registry: &str,
    scope: &str,
    client_id: &str,
    subject_token: &str,
) -> GetDockerConfigRequest {
    let identity = FederatedIdentity {
        tenant_id: String::new(),
        client_id: client_id.to_owned(),
        subject_token: subject_token.to_owned(),
    };
    request(namespace, registry, Some(scope), Identity::Federated(identity))
}

/// A request for an identity of the broker.
pub(crate) fn broker_owned(
    namespace: &str,
    registry: &str,
    scope: Option<&str>,
    client_id: &str,
) -> GetDockerConfigRequest {
    let identity = BrokerOwnedIdentity {
        selector: Some(Selector::ClientId(client_id.to_owned())),
    };
    request(namespace, registry, scope, Identity::BrokerOwned(identity))
}

fn request(
    namespace: &str,
    registry: &str,
    scope: Option<&str>,
    identity: Identity,
) -> GetDockerConfigRequest {
    let binding = BindingReference {
        namespace: namespace.to_owned(),
        name: "web".to_owned(),
        uid: "uid".to_owned(),
    };
    GetDockerConfigRequest {
        binding: Some(binding),
        service_accounts: vec!["web".to_owned()],
        registry: registry.to_owned(),
        scopes: scope.into_iter().map(str::to_owned).collect(),
        identity: Some(identity),
        ..GetDockerConfigRequest::default()
    }
}
