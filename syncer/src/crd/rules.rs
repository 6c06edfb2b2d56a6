//! The rules that both APIs share, as CEL expressions with a message for people each.
//!
//! The older API takes an empty string for a field that was left out, because the peer writes such strings itself:
//! there each rule stands behind `self == '' ||`, see [`or_empty`].

use kube::core::Rule;

/// Name of a ServiceAccount: a DNS subdomain (RFC 1123).
pub(super) const IS_NAME: &str =
    "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')";
pub(super) const NAME_MESSAGE: &str = "must be the name of a ServiceAccount, such as default";
/// The same for each of a list.
pub(super) const ARE_NAMES: &str =
    "self.all(name, name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$'))";
pub(super) const NAMES_MESSAGE: &str = "must be names of ServiceAccounts, such as default";

pub(super) const IS_GUID: &str = "self.matches('^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$')";
pub(super) const GUID_MESSAGE: &str = "must be a GUID such as 1b461305-28be-5271-beda-bd9fd2e24251";

/// A tenant has a GUID and domain names; both are accepted by Entra ID. The domain needs a dot, which keeps
/// `common` and `organizations` out.
pub(super) const IS_TENANT: &str = "self.matches('^([0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}|[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?([.][a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)+)$')";
pub(super) const TENANT_MESSAGE: &str =
    "must be the GUID of a tenant or one of its domain names, such as contoso.onmicrosoft.com";

/// A fully qualified domain name: no address, no port, no final dot.
pub(super) const IS_HOST: &str =
    "self.matches('^(?i)([a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?[.])+[a-z][-a-z0-9]{0,61}[a-z0-9]$')";
pub(super) const HOST_MESSAGE: &str = "server must be the bare host name of the registry, such as example.azurecr.io (no scheme, port, path, final dot)";

/// The grammar of scopes. Over the whole text: a rule for each of a list of scopes costs more than the API server allows.
pub(super) const IS_SCOPE: &str = r"self.matches(r'^\s*[a-z-]+:[^\s:]+:[a-zA-Z_*]+(,[a-zA-Z_*]+)*(\s+[a-z-]+:[^\s:]+:[a-zA-Z_*]+(,[a-zA-Z_*]+)*)*\s*$')";
pub(super) const SCOPE_MESSAGE: &str = "scope must be one or more of <type>:<name>:<action>[,<action>] separated by spaces, such as repository:app/web:pull";
/// A wildcard in a name: registries take it and grant nothing. One for the actions (`registry:catalog:*`) is fine.
pub(super) const HAS_NO_WILDCARD: &str = r"!self.matches(r'(^|\s)[^\s:]*:[^\s:]*[*]')";
pub(super) const WILDCARD_MESSAGE: &str = "scope must not have a wildcard in a name, registries grant nothing for it: list each repository, separated by spaces";

/// The resource id of a user-assigned identity.
pub(super) const IS_IDENTITY: &str = "self.matches('^(?i)/subscriptions/[^/ ]+/resourcegroups/[^/ ]+/providers/Microsoft[.]ManagedIdentity/userAssignedIdentities/[^/ ]+$')";

/// The rule, or nothing at all.
pub(super) fn or_empty(rule: &str, message: &str) -> Rule {
    Rule::new(format!("self == '' || {rule}")).message(message)
}
