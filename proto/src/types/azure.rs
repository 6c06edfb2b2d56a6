//! Identifiers of Azure: GUIDs, tenants, resource ids of user-assigned identities.

use std::{fmt, str::FromStr, sync::Arc};

/// Why a text is not the identifier that it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AzureIdError {
    /// Not a GUID.
    #[error("must be a GUID such as 1b461305-28be-5271-beda-bd9fd2e24251")]
    Guid,
    /// Neither a GUID nor a domain name.
    #[error("must be a tenant's GUID or one of its domain names, such as contoso.onmicrosoft.com")]
    Tenant,
    /// Not the resource id of a user-assigned identity.
    #[error(
        "must be /subscriptions/<id>/resourceGroups/<name>/providers/Microsoft.ManagedIdentity/userAssignedIdentities/<name>"
    )]
    ResourceId,
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl $name {
            /// The canonical text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// A GUID in lower case: the client ID of an application or of a user-assigned identity.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AzureId(Arc<str>);
text_newtype!(AzureId);

impl FromStr for AzureId {
    type Err = AzureIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        /// Lengths of the groups of a GUID (RFC 9562 section 4).
        const GROUPS: [usize; 5] = [8, 4, 4, 4, 12];
        let groups = text.split('-').map(|group| {
            group
                .bytes()
                .all(|byte| byte.is_ascii_hexdigit())
                .then_some(group.len())
        });
        if groups.eq(GROUPS.map(Some)) {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(AzureIdError::Guid)
        }
    }
}

/// A tenant: its GUID, or one of its verified domain names, in lower case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(Arc<str>);
text_newtype!(TenantId);

impl FromStr for TenantId {
    type Err = AzureIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(guid) = text.parse::<AzureId>() {
            return Ok(Self(guid.0));
        }
        // `common`, `organizations` and `consumers` are not tenants; a tenant's domain has a dot.
        let is_domain = text.len() <= 253
            && text.contains('.')
            && text.split('.').all(|label| {
                !label.is_empty()
                    && label.len() <= 63
                    && label
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            });
        if is_domain {
            Ok(Self(text.to_ascii_lowercase().into()))
        } else {
            Err(AzureIdError::Tenant)
        }
    }
}

/// The resource id of a user-assigned identity, in lower case: Azure compares resource ids without case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId(Arc<str>);
text_newtype!(ResourceId);

impl FromStr for ResourceId {
    type Err = AzureIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let canonical = text.to_ascii_lowercase();
        let parts: Vec<&str> = canonical.split('/').collect();
        let is_name = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_graphic());
        match parts.as_slice() {
            [
                "",
                "subscriptions",
                subscription,
                "resourcegroups",
                group,
                "providers",
                "microsoft.managedidentity",
                "userassignedidentities",
                name,
            ] if text.len() <= 1024 && is_name(subscription) && is_name(group) && is_name(name) => {
                Ok(Self(canonical.into()))
            }
            _ => Err(AzureIdError::ResourceId),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn azure_id_is_a_guid_in_any_case() {
        let upper = "1B461305-28BE-5271-BEDA-BD9FD2E24251".parse::<AzureId>().unwrap();
        assert_eq!(upper.as_str(), "1b461305-28be-5271-beda-bd9fd2e24251");
        for text in [
            "",
            "1b461305",
            "1b461305-28be-5271-beda-bd9fd2e2425g",
            "{1b461305-28be-5271-beda-bd9fd2e24251}",
        ] {
            assert_eq!(text.parse::<AzureId>(), Err(AzureIdError::Guid), "{text:?}");
        }
    }

    #[test]
    fn tenant_is_a_guid_or_a_domain() {
        assert_eq!(
            "Contoso.OnMicrosoft.com".parse::<TenantId>().unwrap().as_str(),
            "contoso.onmicrosoft.com"
        );
        assert!("22222222-2222-2222-2222-222222222222".parse::<TenantId>().is_ok());
        for text in ["", "common", "a..b", "a/b.c", "a.b?x"] {
            assert_eq!(text.parse::<TenantId>(), Err(AzureIdError::Tenant), "{text:?}");
        }
    }

    #[test]
    fn resource_id_compares_without_case() {
        let mixed =
            "/subscriptions/S/resourceGroups/G/providers/Microsoft.ManagedIdentity/userAssignedIdentities/N";
        let lower = mixed.to_lowercase();
        assert_eq!(
            mixed.parse::<ResourceId>().unwrap(),
            lower.parse::<ResourceId>().unwrap()
        );
        for text in [
            "",
            "/subscriptions/s",
            "subscriptions/s/resourceGroups/g",
            &format!("{mixed}/more"),
        ] {
            assert_eq!(
                text.parse::<ResourceId>(),
                Err(AzureIdError::ResourceId),
                "{text:?}"
            );
        }
    }
}
