//! Who may do what: role assignments in force, read under the registry's role mode.

use std::{fmt, str::FromStr};

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{Registry, Role, RoleAssignment, RoleMode};

/// What reading a repository takes.
const READ: &[&str] = &["pull", "metadataRead"];
/// What writing it takes.
const WRITE: &[&str] = &["pull", "push", "metadataRead"];
/// All there is.
const ALL: &[&str] = &["pull", "push", "delete", "metadataRead"];

/// `repository:team/app:pull`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) actions: Vec<String>,
}

/// What a principal, or an anonymous caller, may do in one registry now.
pub(super) struct Permissions<'a> {
    registry: &'a Registry,
    roles: Vec<&'a RoleAssignment>,
}

impl Scope {
    /// A scope of one action.
    pub(super) fn repository(name: &str, actions: &[&str]) -> Self {
        Self {
            kind: "repository".to_owned(),
            name: name.to_owned(),
            actions: actions.iter().map(|action| (*action).to_owned()).collect(),
        }
    }

    /// The whole catalog.
    pub(super) fn catalog() -> Self {
        Self {
            kind: "registry".to_owned(),
            name: "catalog".to_owned(),
            actions: vec!["*".to_owned()],
        }
    }

    /// As in the `access` claim.
    pub(super) fn claim(&self) -> Value {
        json!({"type": self.kind, "name": self.name, "actions": self.actions})
    }

    /// From the `access` claim.
    pub(super) fn from_claim(claim: &Value) -> Option<Self> {
        let text = |name: &str| claim.get(name)?.as_str().map(str::to_owned);
        let actions = claim.get("actions")?.as_array()?.iter();
        Some(Self {
            kind: text("type")?,
            name: text("name")?,
            actions: actions
                .filter_map(|action| action.as_str().map(str::to_owned))
                .collect(),
        })
    }

    /// The same scope with those of its actions that are allowed.
    #[must_use]
    pub(super) fn limited_to(&self, allowed: impl Fn(&str) -> bool) -> Self {
        let actions = self
            .actions
            .iter()
            .filter(|action| allowed(action))
            .cloned()
            .collect();
        Self {
            actions,
            ..self.clone()
        }
    }
}

impl FromStr for Scope {
    type Err = ();

    /// `type:name:actions`; the name may hold colons, the actions are separated by commas.
    fn from_str(text: &str) -> Result<Self, ()> {
        let (kind, rest) = text.split_once(':').ok_or(())?;
        let (name, actions) = rest.rsplit_once(':').ok_or(())?;
        if name.is_empty() || actions.is_empty() {
            return Err(());
        }
        let actions = actions.split(',').map(str::to_owned).collect();
        Ok(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions,
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{}:{}:{}",
            self.kind,
            self.name,
            self.actions.join(",")
        )
    }
}

impl<'a> Permissions<'a> {
    /// Of a principal.
    pub(super) fn of(object_id: &str, registry: &'a Registry, now: Timestamp) -> Self {
        let own = |role: &&RoleAssignment| role.object_id == object_id && role.in_force(now);
        Self {
            registry,
            roles: registry.roles.iter().filter(own).collect(),
        }
    }

    /// Of nobody in particular.
    pub(super) fn anonymous(registry: &'a Registry) -> Self {
        Self {
            registry,
            roles: Vec::new(),
        }
    }

    /// Whether there is anything at all that it may do with the content.
    pub(super) fn any(&self) -> bool {
        self.roles
            .iter()
            .any(|role| !self.repository_actions(role).is_empty() || self.lists(role))
    }

    /// Whether it may do this.
    pub(super) fn allows(&self, scope: &Scope, action: &str) -> bool {
        match scope.kind.as_str() {
            "registry" => scope.name == "catalog" && self.roles.iter().any(|role| self.lists(role)),
            // Wildcards are documented not to work.
            "repository" | "artifact-repository" if !scope.name.contains('*') => {
                (self.registry.anonymous_pull && action == "pull")
                    || self.roles.iter().any(|role| {
                        self.condition_met(role, &scope.name)
                            && self.repository_actions(role).contains(&action)
                    })
            }
            _ => false,
        }
    }

    /// Conditions exist in mode `rbac-abac` only.
    fn condition_met(&self, role: &RoleAssignment, repository: &str) -> bool {
        self.registry.mode == RoleMode::Rbac
            || role
                .condition
                .as_ref()
                .is_none_or(|condition| condition.allows(repository))
    }

    fn repository_actions(&self, role: &RoleAssignment) -> &'static [&'static str] {
        match (self.registry.mode, role.role) {
            (RoleMode::Rbac, Role::AcrPull | Role::Reader) | (RoleMode::RbacAbac, Role::RepoReader) => READ,
            (RoleMode::Rbac, Role::AcrPush) | (RoleMode::RbacAbac, Role::RepoWriter) => WRITE,
            (RoleMode::Rbac, Role::Owner | Role::Contributor) => ALL,
            (RoleMode::Rbac, Role::RepoReader | Role::RepoWriter | Role::CatalogLister)
            | (
                RoleMode::RbacAbac,
                Role::AcrPull
                | Role::AcrPush
                | Role::Owner
                | Role::Contributor
                | Role::Reader
                | Role::CatalogLister,
            ) => &[],
        }
    }

    fn lists(&self, role: &RoleAssignment) -> bool {
        match self.registry.mode {
            RoleMode::Rbac => !self.repository_actions(role).is_empty(),
            RoleMode::RbacAbac => role.role == Role::CatalogLister,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Condition;

    fn allows(registry: &Registry, scope: &str) -> bool {
        let scope: Scope = scope.parse().unwrap();
        let permissions = Permissions::of("o", registry, Timestamp::UNIX_EPOCH);
        scope
            .actions
            .iter()
            .all(|action| permissions.allows(&scope, action))
    }

    #[test]
    fn scope_survives_its_text() {
        for text in [
            "repository:team/app:pull",
            "repository:host:5000/app:pull,push",
            "registry:catalog:*",
        ] {
            assert_eq!(text.parse::<Scope>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "repository",
            "repository:app",
            "repository::pull",
            "repository:app:",
        ] {
            assert!(text.parse::<Scope>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn role_counts_in_its_mode_only() {
        let mut registry = Registry::new("a.azurecr.io", "t").with_role("o", Role::AcrPull);
        assert!(allows(&registry, "repository:app:pull"));
        assert!(!allows(&registry, "repository:app:pull,push"));
        registry.switch_mode(RoleMode::RbacAbac);
        assert!(!allows(&registry, "repository:app:pull"));
        registry.grant("o", Role::RepoReader, None);
        assert!(allows(&registry, "repository:app:pull"));
        assert!(!allows(&registry, "registry:catalog:*"));
    }

    #[test]
    fn role_condition_limits_repositories() {
        let mut registry = Registry::new("a.azurecr.io", "t").with_role("o", Role::RepoReader);
        registry.mode = RoleMode::RbacAbac;
        registry.roles[0].condition = Some(Condition::StartsWith("Team/".to_owned()));
        assert!(allows(&registry, "repository:team/app:pull"));
        assert!(!allows(&registry, "repository:other/app:pull"));
    }

    #[test]
    fn role_late_or_revoked_does_not_count() {
        let at = |second| Some(Timestamp::from_second(second).unwrap());
        let mut registry = Registry::new("a.azurecr.io", "t");
        registry.grant("o", Role::AcrPull, at(1));
        assert!(!allows(&registry, "repository:app:pull"));
        registry.roles[0].effective_at = None;
        registry.roles[0].revoked_at = at(0);
        assert!(!allows(&registry, "repository:app:pull"));
    }

    #[test]
    fn anonymous_may_pull_where_that_is_on() {
        let mut registry = Registry::new("a.azurecr.io", "t");
        let scope = Scope::repository("app", &["pull"]);
        assert!(!Permissions::anonymous(&registry).allows(&scope, "pull"));
        registry.anonymous_pull = true;
        assert!(Permissions::anonymous(&registry).allows(&scope, "pull"));
        assert!(!Permissions::anonymous(&registry).allows(&scope, "push"));
    }
}
