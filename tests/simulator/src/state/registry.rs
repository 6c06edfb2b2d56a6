//! Registries: who may do what, and how long tokens live.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{ChallengeService, RegistrySwitches};

/// Lifetimes as seen on the wire: 3 h and 1 h after the call, with `iat` and `nbf` 15 min before it
/// (11 700 s and 4 500 s by the claims).
const REFRESH_TTL_S: u64 = 10_800;
const ACCESS_TTL_S: u64 = 3_600;
const BACKDATE_S: i64 = 900;

/// Documented for Basic and Standard.
const OAUTH_RPM: u32 = 10_000;

/// One container registry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Registry {
    /// Login server.
    pub host: String,
    /// Regional login servers.
    #[serde(default)]
    pub aliases: Vec<String>,
    /// GUID of its tenant.
    pub tenant: String,
    /// Which roles count.
    #[serde(default)]
    pub mode: RoleMode,
    /// Tokens are bound to the epoch in which they were issued; switching the mode raises it.
    #[serde(default)]
    pub mode_epoch: u64,
    /// Whether tokens for Azure Resource Manager are taken.
    #[serde(default)]
    pub arm_policy: ArmPolicy,
    /// Anyone may pull.
    #[serde(default)]
    pub anonymous_pull: bool,
    /// False: every caller gets 403 DENIED.
    #[serde(default = "yes")]
    pub public_network: bool,
    /// Only these callers are let in.
    #[serde(default)]
    pub allowed_ips: Option<Vec<IpAddr>>,
    /// Seconds a refresh token lives after the call.
    #[serde(default = "refresh_ttl")]
    pub refresh_ttl_s: u64,
    /// Seconds an access token lives after the call.
    #[serde(default = "access_ttl")]
    pub access_ttl_s: u64,
    /// How far in the past `iat` and `nbf` are. Unverified; 900 unless given.
    #[serde(default = "backdate")]
    pub backdate_s: i64,
    /// Exchange and token requests per minute.
    #[serde(default = "oauth_rpm")]
    pub oauth_rpm: u32,
    /// Repositories and their tags, for registries without a backend.
    #[serde(default)]
    pub repositories: BTreeMap<String, Vec<String>>,
    /// `http://host:port` of a real registry that serves `/v2/` and trusts the simulator's keys.
    #[serde(default)]
    pub backend: Option<String>,
    /// What is not known for certain.
    #[serde(default)]
    pub switches: RegistrySwitches,
    /// Role assignments.
    #[serde(default)]
    pub roles: Vec<RoleAssignment>,
}

/// Which roles count.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RoleMode {
    /// `AcrPull`, `AcrPush`, `Owner`, `Contributor`, `Reader`.
    #[default]
    #[serde(rename = "rbac")]
    Rbac,
    /// `RepoReader`, `RepoWriter`, `CatalogLister`, with conditions.
    #[serde(rename = "rbac-abac")]
    RbacAbac,
}

/// `azureADAuthenticationAsArmPolicy`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ArmPolicy {
    /// Both audiences are accepted; the default of Azure.
    #[default]
    Enabled,
    /// Only the registry audience is accepted.
    Disabled,
}

/// A role that can be assigned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Pull.
    AcrPull,
    /// Pull and push.
    AcrPush,
    /// Everything, in mode `rbac` only.
    Owner,
    /// Everything, in mode `rbac` only.
    Contributor,
    /// Pull, in mode `rbac` only.
    Reader,
    /// Pull, in mode `rbac-abac` only.
    RepoReader,
    /// Pull and push, in mode `rbac-abac` only.
    RepoWriter,
    /// The catalog, in mode `rbac-abac` only.
    CatalogLister,
}

/// A role assignment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleAssignment {
    /// Object ID of the principal.
    pub object_id: String,
    /// The role.
    pub role: Role,
    /// Restricts the repositories, in mode `rbac-abac`.
    #[serde(default)]
    pub condition: Option<Condition>,
    /// Not in force before: a grant that has not propagated yet.
    #[serde(default)]
    pub effective_at: Option<Timestamp>,
    /// Not in force from then on.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
}

/// A condition on the repository's name; case is ignored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Condition {
    /// `StringEqualsIgnoreCase`.
    Equals(String),
    /// `StringStartsWithIgnoreCase`.
    StartsWith(String),
}

impl Registry {
    /// A registry with documented defaults, nothing in it and nobody allowed.
    pub fn new(host: &str, tenant: &str) -> Self {
        Self {
            host: host.to_owned(),
            aliases: Vec::new(),
            tenant: tenant.to_owned(),
            mode: RoleMode::Rbac,
            mode_epoch: 0,
            arm_policy: ArmPolicy::Enabled,
            anonymous_pull: false,
            public_network: true,
            allowed_ips: None,
            refresh_ttl_s: REFRESH_TTL_S,
            access_ttl_s: ACCESS_TTL_S,
            backdate_s: BACKDATE_S,
            oauth_rpm: OAUTH_RPM,
            repositories: BTreeMap::new(),
            backend: None,
            switches: RegistrySwitches::default(),
            roles: Vec::new(),
        }
    }

    /// Assigns a role, in force at once.
    #[must_use]
    pub fn with_role(mut self, object_id: &str, role: Role) -> Self {
        self.grant(object_id, role, None);
        self
    }

    /// Assigns a role that comes into force at `effective_at`.
    #[must_use]
    pub fn with_late_role(mut self, object_id: &str, role: Role, effective_at: Timestamp) -> Self {
        self.grant(object_id, role, Some(effective_at));
        self
    }

    /// Adds a repository with tags.
    #[must_use]
    pub fn with_repository(mut self, name: &str, tags: &[&str]) -> Self {
        self.repositories.insert(
            name.to_owned(),
            tags.iter().map(|tag| (*tag).to_owned()).collect(),
        );
        self
    }

    /// Puts a real registry behind it.
    #[must_use]
    pub fn with_backend(mut self, url: &str) -> Self {
        self.backend = Some(url.to_owned());
        self
    }

    /// Assigns a role to a registry that is there already.
    pub fn grant(&mut self, object_id: &str, role: Role, effective_at: Option<Timestamp>) {
        self.roles.push(RoleAssignment {
            object_id: object_id.to_owned(),
            role,
            condition: None,
            effective_at,
            revoked_at: None,
        });
    }

    /// Switches the role mode, which invalidates every token issued before.
    pub fn switch_mode(&mut self, mode: RoleMode) {
        self.mode = mode;
        self.mode_epoch += 1;
    }

    /// Every host it answers under.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.host)
            .chain(&self.aliases)
            .map(String::as_str)
    }

    /// Whether it answers under this host.
    pub fn answers_to(&self, host: &str) -> bool {
        self.hosts().any(|own| own.eq_ignore_ascii_case(host))
    }

    /// What it calls itself in challenges and tokens when asked as `host`.
    pub fn service<'a>(&'a self, host: &'a str) -> &'a str {
        match self.switches.challenge_service {
            ChallengeService::Global => &self.host,
            ChallengeService::Host => host,
        }
    }
}

impl RoleAssignment {
    /// Whether it is in force.
    pub fn in_force(&self, now: Timestamp) -> bool {
        self.effective_at.is_none_or(|at| at <= now) && self.revoked_at.is_none_or(|at| now < at)
    }
}

impl Condition {
    /// Whether a repository meets it.
    pub fn allows(&self, repository: &str) -> bool {
        match self {
            Self::Equals(name) => name.eq_ignore_ascii_case(repository),
            Self::StartsWith(prefix) => repository
                .get(..prefix.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(prefix)),
        }
    }
}

const fn yes() -> bool {
    true
}

const fn refresh_ttl() -> u64 {
    REFRESH_TTL_S
}

const fn access_ttl() -> u64 {
    ACCESS_TTL_S
}

const fn backdate() -> i64 {
    BACKDATE_S
}

const fn oauth_rpm() -> u32 {
    OAUTH_RPM
}
