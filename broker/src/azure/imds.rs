//! Managed identity: the broker's own, from the instance metadata service of its host, through `azure_identity`.

use std::{sync::Arc, time::SystemTime};

use azure_core::credentials::TokenCredential as _;
use azure_identity::{ManagedIdentityCredential, ManagedIdentityCredentialOptions, UserAssignedId};
use runtime::Secret;

use super::{
    Attempt, Issued, classify, gate::PauseScope, sdk_transport::SdkTransport, transport::Endpoint,
    upstream::Upstream,
};
use crate::{config::Identity, error::CredentialError};

pub(super) async fn token_for_identity(
    upstream: &Arc<Upstream>,
    identity: &Identity,
    audience: &str,
    attempt: &Attempt,
    now: SystemTime,
) -> Result<Issued, CredentialError> {
    // Never without a selector: that would be the default identity of the host, a kubelet's for instance.
    let user_assigned_id = match (&identity.client_id, &identity.resource_id) {
        (Some(client_id), _) => UserAssignedId::ClientId(client_id.to_string()),
        (None, Some(resource_id)) => UserAssignedId::ResourceId(resource_id.to_string()),
        (None, None) => return Err(CredentialError::titled(proto::Reason::Internal)),
    };
    let name = format!("identity {}", identity.name);
    let transport = SdkTransport::new(
        Arc::clone(upstream),
        Endpoint::Imds,
        PauseScope::Host,
        attempt.clone(),
        Box::new(move |error| classify::imds(error, &name)),
    );
    let options = ManagedIdentityCredentialOptions {
        user_assigned_id: Some(user_assigned_id),
        client_options: transport.client_options(),
    };
    let scope = format!("{audience}/.default");
    let token = match ManagedIdentityCredential::new(Some(options)) {
        Ok(credential) => credential.get_token(&[&scope], None).await,
        Err(error) => Err(error),
    };
    let lifetime = transport.observed()?;
    let token = token.map_err(|_sdk_error| CredentialError::titled(proto::Reason::UpstreamMalformed))?;
    Ok(Issued {
        token: Secret::from(token.token.secret().to_owned()),
        expires_at: now + lifetime,
    })
}
