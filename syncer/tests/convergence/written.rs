//! Bindings of either API, as people write them, and the things that they say one by one.

use syncer::{
    binding::{ApiVersion, Binding, Defaults},
    crd::{
        AcrConfiguration, AcrPullBinding, AcrPullBindingSpec, AirgappedCloudConfiguration,
        AuthenticationMethod, AzureEnvironment, ManagedIdentityAuth, WorkloadIdentityAuth, v1beta1,
    },
};

use crate::cases::ACCOUNTS;

const SERVERS: [&str; 2] = ["prod.azurecr.io", "other.azurecr.io"];
const SCOPES: [&str; 3] = [
    "repository:team/web:pull",
    "repository:team/other:pull",
    "repository:team/web:pull repository:base:pull",
];
pub(crate) const CLIENTS: [&str; 2] = [
    "33333333-3333-3333-3333-000000000001",
    "33333333-3333-3333-3333-000000000002",
];
pub(crate) const TENANTS: [&str; 2] = [
    "11111111-1111-1111-1111-000000000001",
    "11111111-1111-1111-1111-000000000002",
];
const AUTHORITIES: [&str; 2] = ["https://login.one.example", "https://login.two.example"];

/// What a binding says, each as the place in a list.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Spec {
    pub(crate) server: usize,
    pub(crate) scope: usize,
    /// Two that Azure has, and an air-gapped one with either authority; the older API says none.
    pub(crate) cloud: usize,
    pub(crate) named: Named,
    pub(crate) account: usize,
    /// Two more ServiceAccounts than one.
    pub(crate) has_more: bool,
    pub(crate) is_valid: bool,
}

/// The identity. The older API knows only the first two.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Named {
    Client(usize),
    Resource(usize),
    /// By the annotations of a ServiceAccount.
    Annotated {
        account: usize,
    },
    InSpec {
        account: usize,
        client: usize,
        tenant: usize,
    },
}

/// One thing that a binding, or the ServiceAccount of its identity, says.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Field {
    Server,
    Scope,
    Cloud,
    Authority,
    /// Of a client or of a resource.
    Identity,
    Tenant,
    /// The ServiceAccount that proves the identity.
    Reference,
    Account,
    MoreAccounts,
    ClientAnnotation,
    TenantAnnotation,
}

impl Spec {
    /// What can be changed in it.
    pub(crate) fn fields(&self, api: ApiVersion) -> Vec<Field> {
        let mut fields = vec![Field::Server, Field::Scope, Field::Account];
        let named = self.named.in_api(api);
        fields.extend(match named {
            Named::Client(_) | Named::Resource(_) => vec![Field::Identity],
            Named::Annotated { .. } => {
                vec![Field::ClientAnnotation, Field::TenantAnnotation, Field::Reference]
            }
            Named::InSpec { .. } => vec![Field::Identity, Field::Tenant, Field::Reference],
        });
        if api == ApiVersion::V1Beta2 {
            fields.extend([Field::Cloud, Field::MoreAccounts]);
            fields.extend((self.cloud >= 2).then_some(Field::Authority));
        }
        fields
    }

    /// The same with this changed and nothing else. What the annotations say is changed elsewhere.
    pub(crate) fn changed(&self, api: ApiVersion, field: Field) -> Self {
        let mut spec = self.clone();
        spec.named = spec.named.in_api(api);
        match (field, &mut spec.named) {
            (Field::Server, _) => spec.server = 1 - spec.server,
            (Field::Scope, _) => spec.scope = (spec.scope + 1) % SCOPES.len(),
            // Never from one authority to the other.
            (Field::Cloud, _) => spec.cloud = [1, 2, 0, 1][spec.cloud],
            (Field::Authority, _) => spec.cloud = 5 - spec.cloud,
            (Field::Account, _) => spec.account = 1 - spec.account,
            (Field::MoreAccounts, _) => spec.has_more = !spec.has_more,
            (Field::Identity, Named::Client(id) | Named::Resource(id)) => *id = 1 - *id,
            (Field::Identity, Named::InSpec { client, .. }) => *client = 1 - *client,
            (Field::Tenant, Named::InSpec { tenant, .. }) => *tenant = 1 - *tenant,
            (Field::Reference, Named::Annotated { account } | Named::InSpec { account, .. }) => {
                *account = (*account + 1) % ACCOUNTS.len();
            }
            (
                Field::Identity
                | Field::Tenant
                | Field::Reference
                | Field::ClientAnnotation
                | Field::TenantAnnotation,
                _,
            ) => {}
        }
        spec
    }
}

impl Named {
    /// As this API can say it.
    pub(crate) fn in_api(self, api: ApiVersion) -> Self {
        match (api, self) {
            (ApiVersion::V1Beta1, Self::Annotated { .. }) => Self::Client(0),
            (ApiVersion::V1Beta1, Self::InSpec { client, .. }) => Self::Client(client),
            (ApiVersion::V1Beta1 | ApiVersion::V1Beta2, named) => named,
        }
    }
}

/// A binding of either API with this spec.
pub(crate) fn written(api: ApiVersion, name: &str, spec: &Spec) -> Binding {
    let server = if spec.is_valid {
        SERVERS[spec.server]
    } else {
        "10.0.0.1"
    }
    .to_owned();
    let named = spec.named.in_api(api);
    let owned = match named {
        Named::Client(id) => Some((Some(CLIENTS[id].to_owned()), None)),
        Named::Resource(id) => Some((None, Some(resource(id)))),
        Named::Annotated { .. } | Named::InSpec { .. } => None,
    };
    match api {
        ApiVersion::V1Beta1 => {
            let (client_id, resource_id) = owned.unwrap_or_default();
            let spec = v1beta1::AcrPullBindingSpec {
                acr_server: server,
                // Without one it is for the whole registry.
                scope: (spec.scope < 2).then(|| SCOPES[spec.scope].to_owned()),
                managed_identity_client_id: client_id,
                managed_identity_resource_id: resource_id,
                service_account_name: Some(ACCOUNTS[spec.account].to_owned()),
            };
            Defaults::default().complete(v1beta1::AcrPullBinding::new(name, spec))
        }
        ApiVersion::V1Beta2 => {
            let more = if spec.has_more { &ACCOUNTS[..2] } else { &[] };
            let (environment, cloud_config) = cloud(spec.cloud);
            let spec = AcrPullBindingSpec {
                acr: AcrConfiguration {
                    server,
                    scope: SCOPES[spec.scope].to_owned(),
                    environment,
                    cloud_config,
                },
                auth: AuthenticationMethod {
                    managed_identity: owned.map(|(client_id, resource_id)| ManagedIdentityAuth {
                        client_id,
                        resource_id,
                    }),
                    workload_identity: federated(named),
                },
                service_account_name: ACCOUNTS[spec.account].to_owned(),
                service_account_names: more.iter().map(|name| (*name).to_owned()).collect(),
            };
            AcrPullBinding::new(name, spec).into()
        }
    }
}

fn federated(named: Named) -> Option<WorkloadIdentityAuth> {
    let (account, client_id, tenant_id) = match named {
        Named::Client(_) | Named::Resource(_) => return None,
        Named::Annotated { account } => (account, None, None),
        Named::InSpec {
            account,
            client,
            tenant,
        } => (
            account,
            Some(CLIENTS[client].to_owned()),
            Some(TENANTS[tenant].to_owned()),
        ),
    };
    Some(WorkloadIdentityAuth {
        service_account_ref: ACCOUNTS[account].to_owned(),
        client_id,
        tenant_id,
    })
}

fn cloud(cloud: usize) -> (AzureEnvironment, Option<AirgappedCloudConfiguration>) {
    match cloud {
        0 => (AzureEnvironment::PublicCloud, None),
        1 => (AzureEnvironment::USGovernmentCloud, None),
        airgapped => (
            AzureEnvironment::AirgappedCloud,
            Some(AirgappedCloudConfiguration {
                entra_authority_host: AUTHORITIES[airgapped - 2].to_owned(),
                resource_manager_audience: "https://arm.example".to_owned(),
            }),
        ),
    }
}

fn resource(id: usize) -> String {
    format!(
        "/subscriptions/44444444-4444-4444-4444-444444444444/resourceGroups/rg/providers/\
         Microsoft.ManagedIdentity/userAssignedIdentities/puller-{id}"
    )
}
