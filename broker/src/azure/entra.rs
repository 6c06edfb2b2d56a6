//! Workload identity federation: a token that an identity trusts for a token of that identity, through `azure_identity`.
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
use proto::types::{AzureId, TenantId};
use runtime::Secret;

use super::{
    Attempt, Issued,
    classify::{self, Presented},
    gate::PauseScope,
    sdk_transport::SdkTransport,
    transport::Endpoint,
    upstream::Upstream,
};
use crate::{config::Cloud, error::CredentialError};

/// What is exchanged for what.
pub(super) struct Exchange<'a> {
    pub(super) cloud: &'a Cloud,
    /// The tenant to ask.
    pub(super) tenant: &'a TenantId,
    /// The identity to become.
    pub(super) client: &'a AzureId,
    /// What it trusts.
    pub(super) assertion: &'a Secret,
    /// What the new token is for.
    pub(super) audience: &'a str,
    /// The assertion in words.
    pub(super) presented: Presented,
}

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

pub(super) async fn exchange(
    upstream: &Arc<Upstream>,
    exchange: Exchange<'_>,
    attempt: &Attempt,
    now: SystemTime,
) -> Result<Issued, CredentialError> {
    let Exchange {
        cloud,
        tenant,
        client,
        assertion,
        audience,
        presented,
    } = exchange;
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
    let scope = format!("{audience}/.default");
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
