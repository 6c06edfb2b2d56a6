//! Workload identity federation: a ServiceAccount's token for an Entra token, through `azure_identity`.
//!
//! One credential object per fetch: the SDK's own cache ignores which assertion it was filled with and holds its lock
//! across the call; an object that serves once has neither problem, and costs microseconds.

use std::{fmt, sync::Arc, time::SystemTime};

use azure_core::{
    cloud::{CloudConfiguration, CustomConfiguration},
    credentials::TokenCredential as _,
    http::ClientMethodOptions,
};
use azure_identity::{ClientAssertion, ClientAssertionCredential, ClientAssertionCredentialOptions};
use runtime::Secret;

use super::{
    Attempt, Issued, classify, gate::PauseScope, sdk_transport::SdkTransport, transport::Endpoint,
    upstream::Upstream,
};
use crate::{authz::TokenSource, error::CredentialError};

struct Assertion(Secret);

impl fmt::Debug for Assertion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Assertion")
    }
}

#[async_trait::async_trait]
impl ClientAssertion for Assertion {
    async fn secret(&self, _options: Option<ClientMethodOptions<'_>>) -> azure_core::Result<String> {
        Ok(self.0.expose().to_owned())
    }
}

pub(super) async fn token_for_assertion(
    upstream: &Arc<Upstream>,
    source: &TokenSource,
    attempt: &Attempt,
    now: SystemTime,
) -> Result<Issued, CredentialError> {
    let TokenSource::Federated {
        cloud,
        tenant,
        client,
        issuer,
        subject,
        assertion,
        cluster: _,
    } = source
    else {
        return Err(CredentialError::titled(proto::Reason::Internal));
    };
    let presented = format!("issuer {issuer}, subject {subject}");
    let transport = SdkTransport::new(
        Arc::clone(upstream),
        Endpoint::Entra,
        PauseScope::Client(tenant.clone(), client.clone()),
        attempt.clone(),
        Box::new(move |error| classify::entra(error, &presented)),
    );
    let mut client_options = transport.client_options();
    let mut custom = CustomConfiguration::default();
    custom.authority_host = cloud.authority.to_string();
    client_options.cloud = Some(Arc::new(CloudConfiguration::Custom(custom)));
    let scope = format!("{}/.default", cloud.registry_audience);
    let token = match ClientAssertionCredential::new(
        tenant.to_string(),
        client.to_string(),
        Assertion(assertion.clone()),
        Some(ClientAssertionCredentialOptions { client_options }),
    ) {
        Ok(credential) => credential.get_token(&[&scope], None).await,
        Err(error) => Err(error),
    };
    // The transport has seen the wire; the SDK's own error says less.
    let lifetime = transport.observed()?;
    let token = token.map_err(|_sdk_error| CredentialError::titled(proto::Reason::UpstreamMalformed))?;
    Ok(Issued {
        token: Secret::from(token.token.secret().to_owned()),
        expires_at: now + lifetime,
    })
}
