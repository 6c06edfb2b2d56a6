//! What a token may do, in the grammar of the Docker token specification that ACR follows.

use std::{collections::BTreeMap, collections::BTreeSet, fmt, str::FromStr, sync::Arc};

/// One resource and the actions on it, such as `repository:team/app:pull,metadata_read`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// Kind of resource: `repository`, `registry`, `artifact-repository`.
    pub kind: String,
    /// Name of the resource. No wildcard: ACR issues none.
    pub name: String,
    /// What may be done with it. Never empty.
    pub actions: BTreeSet<String>,
}

/// Why a text is not a scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScopeError {
    /// Not three parts, or an empty part.
    #[error("must be <type>:<name>:<action>[,<action>], such as repository:team/app:pull")]
    Grammar,
    /// A `*` in the name.
    #[error("must name one repository: the registry issues no token for a wildcard; list each repository")]
    Wildcard,
    /// Longer than any real scope, see [`Scope::MAX_CHARS`].
    #[error("must have at most 1024 characters")]
    TooLong,
}

impl Scope {
    /// Repository names have at most 256 characters (OCI distribution specification); the rest is room for actions.
    pub const MAX_CHARS: usize = 1024;
}

impl FromStr for Scope {
    type Err = ScopeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > Self::MAX_CHARS {
            return Err(ScopeError::TooLong);
        }
        let (kind, rest) = text.split_once(':').ok_or(ScopeError::Grammar)?;
        let (name, actions) = rest.rsplit_once(':').ok_or(ScopeError::Grammar)?;
        let kind_is_ok =
            !kind.is_empty() && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let name_is_ok = !name.is_empty()
            && name
                .bytes()
                .all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b','));
        let action_is_ok = |action: &str| {
            !action.is_empty()
                && action
                    .bytes()
                    .all(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'*'))
        };
        if name.contains('*') {
            return Err(ScopeError::Wildcard);
        }
        // A repository name has no colon (it would be a tag); `registry:catalog:*` has none either.
        if !kind_is_ok || !name_is_ok || name.contains(':') || !actions.split(',').all(action_is_ok) {
            return Err(ScopeError::Grammar);
        }
        Ok(Self {
            kind: kind.to_owned(),
            name: name.to_owned(),
            actions: actions.split(',').map(str::to_owned).collect(),
        })
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for part in [&self.kind, ":", &self.name, ":"] {
            f.write_str(part)?;
        }
        for (position, action) in self.actions.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            f.write_str(action)?;
        }
        Ok(())
    }
}

/// The canonical form of everything that one token may do: resources sorted and merged, actions sorted.
///
/// Two requests that mean the same are equal, so that they share one token. Empty means "all that the identity may do".
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct ScopeSet(Arc<[Scope]>);

impl ScopeSet {
    /// The scopes, sorted by kind and name, each pair at most once.
    pub fn iter(&self) -> impl Iterator<Item = &Scope> {
        self.0.iter()
    }

    /// Whether no scope was asked for.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The scopes as the `scope` field of a token request carries them: separated by one space.
    pub fn to_field(&self) -> String {
        self.0.iter().map(Scope::to_string).collect::<Vec<_>>().join(" ")
    }

    /// Reads the one-field form: scopes separated by white space.
    ///
    /// # Errors
    /// The first scope that does not parse.
    pub fn from_field(text: &str) -> Result<Self, ScopeError> {
        text.split_whitespace().map(str::parse).collect()
    }
}

impl FromIterator<Scope> for ScopeSet {
    fn from_iter<T: IntoIterator<Item = Scope>>(scopes: T) -> Self {
        let mut merged = BTreeMap::<(String, String), BTreeSet<String>>::new();
        for scope in scopes {
            merged
                .entry((scope.kind, scope.name))
                .or_default()
                .extend(scope.actions);
        }
        Self(
            merged
                .into_iter()
                .map(|((kind, name), actions)| Scope { kind, name, actions })
                .collect(),
        )
    }
}

impl fmt::Debug for ScopeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.iter().map(Scope::to_string))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scope_set_of_equal_meaning_is_equal() {
        let one =
            ScopeSet::from_field("repository:b:pull repository:a:push,pull  repository:b:pull").unwrap();
        let other = ScopeSet::from_field("repository:a:pull repository:a:push repository:b:pull").unwrap();
        assert_eq!(one, other);
        assert_eq!(one.to_field(), "repository:a:pull,push repository:b:pull");
    }

    #[test]
    fn scope_set_of_white_space_is_empty() {
        assert!(ScopeSet::from_field(" \n ").unwrap().is_empty());
    }

    #[test]
    fn scope_that_acr_never_grants_is_refused() {
        for (text, why) in [
            ("", ScopeError::Grammar),
            ("repository", ScopeError::Grammar),
            ("repository:a", ScopeError::Grammar),
            ("repository::pull", ScopeError::Grammar),
            ("repository:a:", ScopeError::Grammar),
            ("repository:a:pull,", ScopeError::Grammar),
            ("repository:a:tag:pull", ScopeError::Grammar),
            ("Repository:a:pull", ScopeError::Grammar),
            ("repository:*:pull", ScopeError::Wildcard),
            ("repository:team/*:pull", ScopeError::Wildcard),
            ("artifact-repository:*:pull", ScopeError::Wildcard),
        ] {
            assert_eq!(text.parse::<Scope>().unwrap_err(), why, "{text:?}");
        }
        assert!("registry:catalog:*".parse::<Scope>().is_ok());
    }

    proptest! {
        #[test]
        fn scope_set_field_form_reads_back_as_itself(
            scopes in prop::collection::vec("(repository|registry|artifact-repository):[a-z0-9/_.-]{1,12}:(pull|push|pull,push|metadata_read)", 0..6)
        ) {
            let set: ScopeSet = scopes.iter().map(|text| text.parse::<Scope>().unwrap()).collect();
            prop_assert_eq!(ScopeSet::from_field(&set.to_field()).unwrap(), set);
        }

        #[test]
        fn scope_parser_never_panics(text in ".{0,80}") {
            if let Ok(scope) = text.parse::<Scope>() {
                prop_assert_eq!(scope.to_string().parse::<Scope>().unwrap(), scope);
            }
        }
    }
}
