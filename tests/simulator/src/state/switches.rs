//! Behaviour of registries that nobody outside Azure has verified, with the value that is taken unless
//! another is given.

use serde::{Deserialize, Serialize};

/// Behaviour that nobody outside Azure has verified. Both values of each are worth a test.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrySwitches {
    /// `POST /oauth2/token` with `grant_type=password` and the null GUID.
    pub password_grant: PasswordGrant,
    /// A scope that the principal does not have.
    pub insufficient_scope: InsufficientScope,
    /// An ACR access token as Basic password.
    pub access_token_as_basic: AccessTokenAsBasic,
    /// `service` and `aud` of a regional host.
    pub challenge_service: ChallengeService,
}

/// See [`RegistrySwitches::password_grant`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PasswordGrant {
    /// 400 with an empty body; clients then fall back to Basic.
    #[default]
    #[serde(rename = "400")]
    BadRequest,
    /// Treated like Basic.
    #[serde(rename = "accept")]
    Accept,
    /// 401.
    #[serde(rename = "401")]
    Unauthorized,
}

/// See [`RegistrySwitches::insufficient_scope`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InsufficientScope {
    /// 401, no token.
    #[default]
    #[serde(rename = "deny_401")]
    Deny401,
    /// A token with what is left.
    #[serde(rename = "reduced_200")]
    Reduced200,
    /// 403, no token.
    #[serde(rename = "deny_403")]
    Deny403,
}

/// See [`RegistrySwitches::access_token_as_basic`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessTokenAsBasic {
    /// A new token that expires when the presented one does.
    #[default]
    ReissueSameExp,
    /// A new token with a full lifetime.
    ReissueFresh,
    /// 401.
    #[serde(rename = "reject_401")]
    Reject401,
}

/// See [`RegistrySwitches::challenge_service`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChallengeService {
    /// The login server, whichever host was asked.
    #[default]
    Global,
    /// The host that was asked.
    Host,
}
