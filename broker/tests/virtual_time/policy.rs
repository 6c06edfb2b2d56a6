//! What the broker owns and who may use it: everybody, unless a test is about that.

use std::sync::Arc;

use azure_simulator::State;
use broker::config::{Clouds, Grant, Identity, IdentitySource, Pattern, Policy};

use super::scene::TENANT;

/// Every managed identity of the state, from the metadata service.
pub(crate) fn managed_identities(state: &State, clouds: &Clouds) -> Vec<Identity> {
    let cloud = clouds.named("PublicCloud").unwrap();
    let owned = state
        .principals
        .iter()
        .filter(|principal| principal.resource_id.is_some());
    owned
        .map(|principal| Identity {
            name: principal.client_id.as_str().into(),
            cloud: Arc::clone(cloud),
            tenant: TENANT.parse().unwrap(),
            client_id: Some(principal.client_id.parse().unwrap()),
            resource_id: None,
            source: IdentitySource::Imds,
            application: None,
        })
        .collect()
}

/// These identities, granted to every namespace at every registry of the state.
pub(crate) fn granted(state: &State, identities: Vec<Identity>) -> Policy {
    let identities: Vec<_> = identities.into_iter().map(Arc::new).collect();
    let grants = identities
        .iter()
        .map(|identity| Grant {
            name: Arc::clone(&identity.name),
            clusters: vec!["cluster".to_owned()],
            namespaces: vec![Pattern::new("*")],
            service_accounts: vec![Pattern::new("*")],
            identity: Arc::clone(&identity.name),
            registries: state
                .registries
                .iter()
                .map(|registry| registry.host.parse().unwrap())
                .collect(),
            repositories: vec![Pattern::new("*")],
            actions: vec!["pull".to_owned()],
            registry_wide: true,
        })
        .collect();
    Policy { identities, grants }
}
