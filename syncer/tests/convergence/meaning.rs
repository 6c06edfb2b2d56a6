//! All that a token depends on, as people write it: told by the objects themselves, and neither by the hash that the
//! product makes of it nor by the code that reads it there.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::ResourceExt as _;
use syncer::{
    binding::Binding,
    wanted::{CLIENT_ID_ANNOTATION, Identity, TENANT_ID_ANNOTATION, Wanted},
};

use crate::world::World;

#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Meaning {
    registry: String,
    scopes: BTreeSet<String>,
    /// Its name, and the authority of one that has no name of its own.
    cloud: [String; 2],
    identity: String,
    /// Who is to pull with it: the broker lets itself be asked for some and not for others.
    accounts: BTreeSet<String>,
}

impl Meaning {
    /// Of nothing that any binding asks for.
    pub(crate) fn other() -> Self {
        Self {
            registry: "something else".to_owned(),
            ..Self::default()
        }
    }

    /// What a question asks for.
    pub(crate) fn asked(wanted: &Wanted, binding: &Binding) -> Self {
        let identity = match &wanted.identity {
            Identity::ClientId(id) => format!("client {id}"),
            Identity::ResourceId(id) => format!("resource {id}"),
            Identity::Federated {
                service_account,
                client_id,
                tenant_id,
            } => {
                let tenant = tenant_id.as_ref().map(ToString::to_string);
                federated(service_account, &client_id.to_string(), tenant.as_deref())
            }
        };
        Self {
            registry: wanted.registry.to_string(),
            scopes: wanted.scopes.iter().map(ToString::to_string).collect(),
            cloud: [wanted.cloud.name.clone(), wanted.cloud.authority_host.clone()],
            identity: identity.to_lowercase(),
            accounts: binding.spec.accounts().into_iter().map(str::to_owned).collect(),
        }
    }

    /// What a binding says that it wants, with the ServiceAccount that it names for its identity; none if that is not enough.
    pub(crate) fn written(binding: &Binding, account: Option<&ServiceAccount>) -> Option<Self> {
        let (acr, auth) = (&binding.spec.acr, &binding.spec.auth);
        if !acr.server.ends_with(".azurecr.io") {
            return None;
        }
        let identity = match (&auth.managed_identity, &auth.workload_identity) {
            (Some(managed), _) => match (&managed.client_id, &managed.resource_id) {
                (Some(id), _) => format!("client {id}"),
                (None, id) => format!("resource {}", id.as_ref()?),
            },
            (None, named) => {
                let named = named.as_ref()?;
                let annotations = account?.annotations();
                let (client, tenant) = match &named.client_id {
                    Some(client) => (client, named.tenant_id.as_ref()),
                    None => (
                        annotations.get(CLIENT_ID_ANNOTATION)?,
                        annotations.get(TENANT_ID_ANNOTATION),
                    ),
                };
                federated(&named.service_account_ref, client, tenant.map(String::as_str))
            }
        };
        let authority = acr.cloud_config.as_ref().map(|cloud| &cloud.entra_authority_host);
        let more = binding.spec.service_account_names.iter().cloned();
        Some(Self {
            registry: acr.server.clone(),
            scopes: acr.scope.split_whitespace().map(str::to_owned).collect(),
            cloud: [
                acr.environment.as_str().to_owned(),
                authority.cloned().unwrap_or_default(),
            ],
            identity: identity.to_lowercase(),
            accounts: more.chain([binding.spec.service_account_name.clone()]).collect(),
        })
    }

    /// What of it makes one token another: the broker hands the same one out for any account.
    pub(crate) fn of_the_token(&self) -> Self {
        Self {
            accounts: BTreeSet::new(),
            ..self.clone()
        }
    }
}

impl World {
    /// What a binding wants now.
    pub(crate) fn meant(&self, slot: usize) -> Option<Meaning> {
        let objects = &self.server.objects;
        let binding = &objects.bindings[&slot];
        let named = binding.spec.auth.workload_identity.as_ref();
        let account = named.and_then(|named| {
            let key = (
                binding.namespace().unwrap_or_default(),
                named.service_account_ref.clone(),
            );
            objects.accounts.get(&key)
        });
        Meaning::written(binding, account)
    }
}

fn federated(account: &str, client: &str, tenant: Option<&str>) -> String {
    format!("account {account} client {client} tenant {tenant:?}")
}
