//! The ways of a broker's identity to a token: its own, from its source, and where it becomes an application, that one's.
//!
//! Where there are two hops, each says in its errors which one it is. Caches nothing: who keeps the first token for the
//! second hop is `credentials`' to say.

use std::{sync::Arc, time::SystemTime};

use runtime::Secret;

use super::{
    Attempt, Issued,
    classify::Presented,
    entra::{self, Exchange},
    imds, projected_token,
    upstream::Upstream,
};
use crate::{
    config::{Application, Identity, IdentitySource},
    error::CredentialError,
};

/// The identity's own token, for its own audience.
pub(super) async fn own_token(
    upstream: &Arc<Upstream>,
    identity: &Identity,
    attempt: &Attempt,
    now: SystemTime,
) -> Result<Issued, CredentialError> {
    let audience = identity.own_audience();
    let issued = match &identity.source {
        IdentitySource::Imds => imds::token_for_identity(upstream, identity, audience, attempt, now).await,
        IdentitySource::ProjectedToken { file, client } => {
            let assertion = projected_token::read(file).await?;
            let exchange = Exchange {
                cloud: &identity.cloud,
                tenant: &identity.tenant,
                client,
                assertion: &assertion,
                audience,
                presented: Presented::projected_token(file, &assertion),
            };
            entra::exchange(upstream, exchange, attempt, now).await
        }
    };
    match &identity.application {
        None => issued,
        Some(_application) => {
            issued.map_err(|error| of_hop("the first of two hops, the identity's own token", error))
        }
    }
}

/// The registry token of the application, for the identity's own token.
pub(super) async fn application_token(
    upstream: &Arc<Upstream>,
    identity: &Identity,
    application: &Application,
    own_token: &Secret,
    attempt: &Attempt,
    now: SystemTime,
) -> Result<Issued, CredentialError> {
    let exchange = Exchange {
        cloud: &identity.cloud,
        tenant: &application.tenant,
        client: &application.client,
        assertion: own_token,
        audience: &identity.cloud.registry_audience,
        presented: Presented::own_token(&identity.name, &identity.tenant, &application.audience),
    };
    let issued = entra::exchange(upstream, exchange, attempt, now).await;
    issued.map_err(|error| of_hop("the second of two hops, the application's token", error))
}

fn of_hop(hop: &str, error: CredentialError) -> CredentialError {
    CredentialError {
        message: format!("{hop}: {}", error.message).into(),
        ..error
    }
}
