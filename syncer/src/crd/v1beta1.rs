//! `msi-acrpull.microsoft.com/v1beta1`, the older API: the spec, field by field as the peer (Azure/msi-acrpull) has it.
//!
//! Every field may be empty, which means a default: the peer writes empty strings into each object that it touches,
//! so a schema that refuses them would refuse all of those. For the rest the rules are those of `v1beta2`.
//!
//! The doc comments are the API documentation, as in `v1beta2`.

#![expect(
    unreachable_pub,
    reason = "the derive of the schema repeats each struct inside a function"
)]

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::{
    AcrPullBindingStatus,
    rules::{
        GUID_MESSAGE, HAS_NO_WILDCARD, HOST_MESSAGE, IS_GUID, IS_HOST, IS_NAME, IS_SCOPE, NAME_MESSAGE,
        SCOPE_MESSAGE, WILDCARD_MESSAGE, or_empty,
    },
};

/// Beside a client ID the resource ID is not read, and the peer took it with needless slashes.
const IS_IDENTITY: &str = "has(self.managedIdentityClientID) && self.managedIdentityClientID != '' || !has(self.managedIdentityResourceID) || self.managedIdentityResourceID == '' || self.managedIdentityResourceID.matches('^(?i)/+subscriptions/+[^/ ]+/+resourcegroups/+[^/ ]+/+providers/+Microsoft[.]ManagedIdentity/+userAssignedIdentities/+[^/ ]+/*$')";

/// Makes a ServiceAccount able to pull from an Azure Container Registry (ACR) with an identity of the broker.
///
/// The older API, kept for manifests that exist; `acrpull.microsoft.com/v1beta2` can do more. The pull Secret of a
/// binding is named `<binding>-msi-acrpull-secret`.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "msi-acrpull.microsoft.com",
    version = "v1beta1",
    kind = "AcrPullBinding",
    plural = "acrpullbindings",
    namespaced,
    status = "AcrPullBindingStatus",
    derive = "PartialEq",
    doc = "AcrPullBinding makes a ServiceAccount able to pull from an Azure Container Registry.",
    category = "acrpull",
    selectable = ".spec.serviceAccountName",
    selectable = ".spec.acrServer",
    printcolumn = r#"{"name":"Server","type":"string","jsonPath":".spec.acrServer","description":"Host name of the registry; empty means the syncer's default."}"#,
    printcolumn = r#"{"name":"ServiceAccount","type":"string","jsonPath":".spec.serviceAccountName","description":"ServiceAccount that can pull; empty means default."}"#,
    printcolumn = r#"{"name":"Ready","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].status","description":"Whether pulls work."}"#,
    printcolumn = r#"{"name":"Reason","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].reason","description":"Why, or why not."}"#,
    printcolumn = r#"{"name":"Expires","type":"string","jsonPath":".status.tokenExpirationTime","description":"When the token in the Secret expires."}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#,
    printcolumn = r#"{"name":"Secret","type":"string","jsonPath":".status.pullSecretName","description":"Name of the pull Secret.","priority":1}"#,
    printcolumn = r#"{"name":"Scope","type":"string","jsonPath":".spec.scope","description":"What the token may do; empty means all that the identity may do.","priority":1}"#,
    printcolumn = r#"{"name":"Last Refresh","type":"date","jsonPath":".status.lastTokenRefreshTime","description":"When the token was fetched.","priority":1}"#,
    printcolumn = r#"{"name":"Next Refresh","type":"string","jsonPath":".status.nextRefreshTime","description":"When the next token is due.","priority":1}"#,
    printcolumn = r#"{"name":"Message","type":"string","jsonPath":".status.conditions[?(@.type==\"Ready\")].message","description":"The reason in words.","priority":1}"#
)]
#[x_kube(validation = Rule::new(IS_IDENTITY)
    .message("managedIdentityResourceID must be the id of a user-assigned identity (/subscriptions/../providers/Microsoft.ManagedIdentity/userAssignedIdentities/..)")
    .field_path(".managedIdentityResourceID"))]
#[serde(rename_all = "camelCase")]
pub struct AcrPullBindingSpec {
    /// Host name of the registry, such as `example.azurecr.io`. Empty means the syncer's default.
    #[schemars(length(max = 253))]
    #[x_kube(validation = or_empty(IS_HOST, HOST_MESSAGE))]
    pub acr_server: String,
    /// What the token may do: one or more of `<type>:<name>:<action>[,<action>]`, separated by spaces,
    /// such as `repository:my-repository:pull`. There is no wildcard for names; list each repository.
    /// Empty means all that the identity may do at the registry; a grant of the broker must allow that.
    /// See <https://distribution.github.io/distribution/spec/auth/scope/>.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    #[x_kube(validation = or_empty(IS_SCOPE, SCOPE_MESSAGE), validation = (HAS_NO_WILDCARD, WILDCARD_MESSAGE))]
    pub scope: Option<String>,
    /// Client ID of an identity that the broker holds. Empty means the syncer's default.
    #[serde(
        rename = "managedIdentityClientID",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 36))]
    #[x_kube(validation = or_empty(IS_GUID, GUID_MESSAGE))]
    pub managed_identity_client_id: Option<String>,
    /// Azure resource ID of an identity that the broker holds. Empty means the syncer's default. Ignored if there is a
    /// client ID.
    #[serde(
        rename = "managedIdentityResourceID",
        default,
        skip_serializing_if = "Option::is_none"
    )]
    #[schemars(length(max = 1024))]
    pub managed_identity_resource_id: Option<String>,
    /// The ServiceAccount that becomes able to pull: the pull Secret is added to its `imagePullSecrets`. Empty means
    /// the ServiceAccount `default`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    #[x_kube(validation = or_empty(IS_NAME, NAME_MESSAGE))]
    pub service_account_name: Option<String>,
}
