//! `acrpull.microsoft.com/v1beta2`: the spec, field by field as the peer (Azure/msi-acrpull) has it, so that every
//! manifest that could work there is accepted here. The rules are stricter only where the peer could never have
//! worked, and right where the peer's were wrong (air-gapped clouds).
//!
//! The doc comments are the API documentation: `kubectl explain apb.spec` prints them.

#![expect(
    unreachable_pub,
    reason = "the derive of the schema repeats each struct inside a function"
)]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    AcrPullBindingStatus,
    rules::{
        ARE_NAMES, GUID_MESSAGE, HAS_NO_WILDCARD, HOST_MESSAGE, IS_GUID, IS_HOST, IS_IDENTITY, IS_NAME,
        IS_SCOPE, IS_TENANT, NAME_MESSAGE, NAMES_MESSAGE, SCOPE_MESSAGE, TENANT_MESSAGE, WILDCARD_MESSAGE,
    },
};

/// Makes a ServiceAccount able to pull from an Azure Container Registry (ACR).
///
/// The syncer obtains a short-lived token for one registry from the broker, keeps it in a pull Secret in this namespace,
/// and lists that Secret in the ServiceAccount's `imagePullSecrets`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "acrpull.microsoft.com",
    version = "v1beta2",
    kind = "AcrPullBinding",
    plural = "acrpullbindings",
    namespaced,
    status = "AcrPullBindingStatus",
    derive = "PartialEq",
    doc = "AcrPullBinding makes a ServiceAccount able to pull from an Azure Container Registry.",
    shortname = "apb",
    shortname = "apbs",
    category = "acrpull",
    selectable = ".spec.serviceAccountName",
    selectable = ".spec.acr.server",
    printcolumn = r#"{"name":"Server","type":"string","jsonPath":".spec.acr.server","description":"Host name of the registry."}"#,
    printcolumn = r#"{"name":"ServiceAccount","type":"string","jsonPath":".spec.serviceAccountName","description":"ServiceAccount that can pull."}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether pulls work."}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason","description":"Why, or why not."}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.tokenExpirationTime","description":"When the token in the Secret expires."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Secret","type":"string","jsonPath":".status.pullSecretName","description":"Name of the pull Secret.","priority":1}"#,
    printcolumn = r#"{"name":"Scope","type":"string","jsonPath":".spec.acr.scope","description":"What the token may do.","priority":1}"#,
    printcolumn = r#"{"name":"Last Refresh","type":"date","jsonPath":".status.lastTokenRefreshTime","description":"When the token was fetched.","priority":1}"#,
    printcolumn = r#"{"name":"Next Refresh","type":"string","jsonPath":".status.nextRefreshTime","description":"When the next token is due.","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","description":"The reason in words.","priority":1}"#
)]
#[serde(rename_all = "camelCase")]
pub struct AcrPullBindingSpec {
    /// The registry and what may be done with it.
    pub acr: AcrConfiguration,
    /// Whose rights the token carries. Exactly one method must be set.
    pub auth: AuthenticationMethod,
    /// The ServiceAccount that becomes able to pull: the pull Secret is added to its `imagePullSecrets`.
    #[schemars(length(max = 253))]
    #[x_kube(validation = (IS_NAME, NAME_MESSAGE))]
    pub service_account_name: String,
    /// More ServiceAccounts of this namespace that become able to pull, with the same token and the same Secret. Grants of
    /// the broker must allow all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 63), inner(length(max = 253)))]
    #[x_kube(merge_strategy = ListMerge::Set, validation = (ARE_NAMES, NAMES_MESSAGE))]
    pub service_account_names: Vec<String>,
}

/// The registry and what may be done with it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(
    validation = Rule::new("self.environment != 'AirgappedCloud' || has(self.cloudConfig)")
        .message("environment AirgappedCloud needs cloudConfig").field_path(".environment"),
    validation = Rule::new("self.environment == 'AirgappedCloud' || !has(self.cloudConfig)")
        .message("cloudConfig is for environment AirgappedCloud only").field_path(".cloudConfig")
)]
#[serde(rename_all = "camelCase")]
pub struct AcrConfiguration {
    /// Host name of the registry, such as `example.azurecr.io`.
    #[schemars(length(max = 253))]
    #[x_kube(validation = (IS_HOST, HOST_MESSAGE))]
    pub server: String,
    /// What the token may do: one or more of `<type>:<name>:<action>[,<action>]`, separated by spaces,
    /// such as `repository:my-repository:pull`. There is no wildcard for names; list each repository.
    /// See <https://distribution.github.io/distribution/spec/auth/scope/>.
    #[schemars(length(min = 1, max = 4096))]
    #[x_kube(validation = (IS_SCOPE, SCOPE_MESSAGE), validation = (HAS_NO_WILDCARD, WILDCARD_MESSAGE))]
    pub scope: String,
    /// The Azure cloud that the registry and the identity live in.
    #[serde(default)]
    pub environment: AzureEnvironment,
    /// The cloud, when `environment` is `AirgappedCloud`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cloud_config: Option<AirgappedCloudConfiguration>,
}

/// An Azure cloud.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "Azure's own names; documented variants would turn the enum into a oneOf"
)]
pub enum AzureEnvironment {
    #[default]
    PublicCloud,
    USGovernmentCloud,
    ChinaCloud,
    AirgappedCloud,
}

/// A cloud that the broker's configuration lists. A binding selects it and cannot add one.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct AirgappedCloudConfiguration {
    /// The Entra ID authority, such as `https://login.example.com`.
    #[schemars(length(min = 1, max = 2048))]
    #[x_kube(validation = ("isURL(self) && url(self).getScheme() == 'https' && url(self).getHostname() != ''", "entraAuthorityHost must be an https URL"))]
    pub entra_authority_host: String,
    /// The audience of Azure Resource Manager in that cloud.
    #[schemars(length(min = 1, max = 2048))]
    pub resource_manager_audience: String,
}

/// Whose rights the token carries.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("[has(self.managedIdentity), has(self.workloadIdentity)].exists_one(x, x)")
    .message(Message::Expression("'set exactly one of managedIdentity and workloadIdentity, found ' + (has(self.managedIdentity) ? 'both' : 'none')".to_owned())))]
#[serde(rename_all = "camelCase")]
pub struct AuthenticationMethod {
    /// An identity that the broker holds. A grant in the broker's configuration must allow its use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub managed_identity: Option<ManagedIdentityAuth>,
    /// An identity that trusts a ServiceAccount of this namespace by a federated credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workload_identity: Option<WorkloadIdentityAuth>,
}

/// An identity that the broker holds.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("[has(self.clientID), has(self.resourceID)].exists_one(x, x)")
    .message(Message::Expression("'set exactly one of clientID and resourceID, found ' + (has(self.clientID) ? 'both' : 'none')".to_owned())))]
pub struct ManagedIdentityAuth {
    /// Client ID of the identity.
    #[serde(rename = "clientID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    #[x_kube(validation = (IS_GUID, GUID_MESSAGE))]
    pub client_id: Option<String>,
    /// Azure resource ID of the identity.
    #[serde(rename = "resourceID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = (IS_IDENTITY, "resourceID must be the id of a user-assigned identity (/subscriptions/../providers/Microsoft.ManagedIdentity/userAssignedIdentities/..)"))]
    pub resource_id: Option<String>,
}

/// An identity that trusts a ServiceAccount of this namespace.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[x_kube(validation = Rule::new("has(self.clientID) == has(self.tenantID)")
    .message(Message::Expression("'clientID and tenantID go together, ' + (has(self.clientID) ? 'tenantID' : 'clientID') + ' is missing'".to_owned())))]
pub struct WorkloadIdentityAuth {
    /// The ServiceAccount that the identity trusts. Its annotation `azure.workload.identity/client-id` names the
    /// identity unless `clientID` does, `azure.workload.identity/tenant-id` the tenant.
    #[serde(rename = "serviceAccountRef")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = (IS_NAME, NAME_MESSAGE))]
    pub service_account_ref: String,
    /// Client ID of the identity, instead of the ServiceAccount's annotation.
    #[serde(rename = "clientID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 36))]
    #[x_kube(validation = (IS_GUID, GUID_MESSAGE))]
    pub client_id: Option<String>,
    /// Tenant of the identity: its GUID or one of its domain names. Goes together with `clientID`.
    #[serde(rename = "tenantID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = (IS_TENANT, TENANT_MESSAGE))]
    pub tenant_id: Option<String>,
}
