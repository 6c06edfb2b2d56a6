//! The Entra side of the state: clouds, tenants, and principals with whom they trust.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ACR_AUDIENCE, federation::FEDERATION_AUDIENCE};

/// How far Entra lets `nbf` and `exp` of an assertion be off, unless a cloud says otherwise.
/// Unverified, therefore a setting.
const ASSERTION_SKEW_S: i64 = 300;

/// Lifetime of a managed identity's token, documented as about 24 hours.
pub(crate) const MANAGED_IDENTITY_TTL_S: u64 = 86_400;

/// One national cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cloud {
    /// Name that tenants refer to.
    pub name: String,
    /// Host of the Entra authority.
    pub authority: String,
    /// Other hosts of the same authority.
    #[serde(default)]
    pub authority_aliases: Vec<String>,
    /// What registry hosts end in.
    pub acr_suffix: String,
    /// Audiences for which Entra issues tokens. All but `acr_audience` count as Azure Resource Manager.
    pub audiences: Vec<String>,
    /// The audience of registries.
    #[serde(default = "acr_audience")]
    pub acr_audience: String,
    /// The audience of tokens that identities show to Entra to become an application.
    #[serde(default = "federation_audience")]
    pub federation_audience: String,
    /// Error descriptions separate their trailer with CR LF, as older stacks do.
    #[serde(default)]
    pub legacy_crlf_errors: bool,
    /// A disconnected stack: an unknown audience is AADSTS50001 and not AADSTS500011.
    #[serde(default)]
    pub disconnected: bool,
    /// Tolerance for `nbf` and `exp` of assertions. Unverified; 300 unless given.
    #[serde(default = "assertion_skew")]
    pub assertion_skew_s: i64,
    /// HTTP status by AADSTS code, where the default is not known for certain (700211, 700212, 700024,
    /// 700027, 50166).
    #[serde(default)]
    pub error_status: BTreeMap<u32, u16>,
}

/// An Entra tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its GUID.
    pub id: String,
    /// Domain names that select it as well.
    #[serde(default)]
    pub domains: Vec<String>,
    /// Name of its cloud.
    pub cloud: String,
}

/// What kind of principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// An application registration.
    App,
    /// A user-assigned managed identity.
    Uami,
}

/// An application or a managed identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// Its kind.
    pub kind: PrincipalKind,
    /// GUID of its tenant.
    pub tenant: String,
    /// Application (client) ID.
    pub client_id: String,
    /// Object ID of the service principal: what roles are assigned to.
    pub object_id: String,
    /// Where its application is registered, with its federated credentials, if that is another tenant: this is then the
    /// service principal that a consent of this tenant has made.
    #[serde(default)]
    pub home_tenant: Option<String>,
    /// Azure resource ID, of managed identities.
    #[serde(default)]
    pub resource_id: Option<String>,
    /// Lifetime of its tokens. Unless given: 24 h for a managed identity, 60 to 90 min at random for an
    /// application.
    #[serde(default)]
    pub token_ttl_s: Option<u64>,
    /// False: there is no service principal in the tenant (AADSTS7000229).
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Federated credentials.
    #[serde(default)]
    pub fics: Vec<FederatedCredential>,
}

/// A federated identity credential: whose tokens the principal accepts, a ServiceAccount's or a managed identity's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FederatedCredential {
    /// Compared exactly with `iss`.
    pub issuer: String,
    /// Compared exactly with `sub`.
    pub subject: String,
    /// Must be among `aud`.
    pub audience: String,
    /// Not there before.
    #[serde(default)]
    pub visible_at: Option<Timestamp>,
    /// Until then each request finds it only by the toss of a (seeded) coin, as if nodes disagreed.
    #[serde(default)]
    pub flaky_until: Option<Timestamp>,
}

impl Cloud {
    /// Azure public.
    pub fn public() -> Self {
        Self {
            audiences: audiences(&[
                "https://management.azure.com/",
                "https://management.core.windows.net/",
            ]),
            ..Self::named("public", "login.microsoftonline.com", "azurecr.io")
        }
    }

    /// Azure US Government.
    pub fn us_government() -> Self {
        Self {
            audiences: audiences(&[
                "https://management.usgovcloudapi.net",
                "https://management.core.usgovcloudapi.net",
            ]),
            federation_audience: "api://AzureADTokenExchangeUSGov".to_owned(),
            ..Self::named("usgov", "login.microsoftonline.us", "azurecr.us")
        }
    }

    /// Azure operated by 21Vianet.
    pub fn china() -> Self {
        Self {
            authority_aliases: vec!["login.partner.microsoftonline.cn".to_owned()],
            audiences: audiences(&[
                "https://management.chinacloudapi.cn",
                "https://management.core.chinacloudapi.cn",
            ]),
            federation_audience: "api://AzureADTokenExchangeChina".to_owned(),
            ..Self::named("china", "login.chinacloudapi.cn", "azurecr.cn")
        }
    }

    /// A cloud of one's own, which knows the registry audience and no other.
    pub fn named(name: &str, authority: &str, acr_suffix: &str) -> Self {
        Self {
            name: name.to_owned(),
            authority: authority.to_owned(),
            authority_aliases: Vec::new(),
            acr_suffix: acr_suffix.to_owned(),
            audiences: audiences(&[]),
            acr_audience: acr_audience(),
            federation_audience: federation_audience(),
            legacy_crlf_errors: false,
            disconnected: false,
            assertion_skew_s: ASSERTION_SKEW_S,
            error_status: BTreeMap::new(),
        }
    }

    /// Whether this host is the cloud's authority.
    pub fn answers_to(&self, host: &str) -> bool {
        self.authority.eq_ignore_ascii_case(host)
            || self
                .authority_aliases
                .iter()
                .any(|alias| alias.eq_ignore_ascii_case(host))
    }

    /// Whether Entra issues tokens for this audience. A trailing slash makes no difference.
    pub fn knows_audience(&self, audience: &str) -> bool {
        let bare = audience.trim_end_matches('/');
        self.audiences
            .iter()
            .any(|known| known.trim_end_matches('/') == bare)
    }
}

impl Principal {
    /// An application.
    pub fn app(tenant: &str, client_id: &str, object_id: &str) -> Self {
        Self {
            kind: PrincipalKind::App,
            tenant: tenant.to_owned(),
            client_id: client_id.to_owned(),
            object_id: object_id.to_owned(),
            home_tenant: None,
            resource_id: None,
            token_ttl_s: None,
            enabled: true,
            fics: Vec::new(),
        }
    }

    /// A user-assigned managed identity.
    pub fn user_assigned(tenant: &str, client_id: &str, object_id: &str, resource_id: &str) -> Self {
        Self {
            kind: PrincipalKind::Uami,
            resource_id: Some(resource_id.to_owned()),
            ..Self::app(tenant, client_id, object_id)
        }
    }

    /// Trusts a subject of an issuer.
    #[must_use]
    pub fn federated(mut self, issuer: &str, subject: &str, audience: &str) -> Self {
        self.fics.push(FederatedCredential {
            issuer: issuer.to_owned(),
            subject: subject.to_owned(),
            audience: audience.to_owned(),
            visible_at: None,
            flaky_until: None,
        });
        self
    }

    /// Sets the lifetime of its tokens.
    #[must_use]
    pub fn with_token_ttl_s(mut self, ttl_s: u64) -> Self {
        self.token_ttl_s = Some(ttl_s);
        self
    }

    /// Resource IDs compare without regard to case.
    pub fn has_resource_id(&self, id: &str) -> bool {
        self.resource_id
            .as_ref()
            .is_some_and(|own| own.eq_ignore_ascii_case(id))
    }
}

fn audiences(arm: &[&str]) -> Vec<String> {
    arm.iter()
        .copied()
        .chain([ACR_AUDIENCE])
        .map(str::to_owned)
        .collect()
}

fn acr_audience() -> String {
    ACR_AUDIENCE.to_owned()
}

fn federation_audience() -> String {
    FEDERATION_AUDIENCE.to_owned()
}

const fn assertion_skew() -> i64 {
    ASSERTION_SKEW_S
}

const fn yes() -> bool {
    true
}
