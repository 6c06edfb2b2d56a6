//! How the report names an object, and what of a foreign text it prints.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;

use super::world::Name;
use crate::binding::ApiVersion;

/// An object that the report speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Object {
    /// Empty for what is in no namespace.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) kind: &'static str,
    /// Only where two APIs have the kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_version: Option<&'static str>,
}

impl Object {
    /// A binding.
    pub(super) fn binding(api: ApiVersion, metadata: &ObjectMeta) -> Self {
        Self {
            api_version: Some(api.as_str()),
            ..Self::namespaced("AcrPullBinding", &Name::of(metadata))
        }
    }

    /// An object of a namespace.
    pub(super) fn namespaced(kind: &'static str, name: &Name) -> Self {
        Self {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            kind,
            api_version: None,
        }
    }

    /// An object of the cluster.
    pub(super) fn of_cluster(kind: &'static str, name: &str) -> Self {
        Self::namespaced(kind, &Name::new("", name))
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind)?;
        if let Some(version) = self.api_version.and_then(|api| api.rsplit('/').next()) {
            write!(f, ".{version}")?;
        }
        match self.namespace.as_str() {
            "" => write!(f, " {}", self.name),
            namespace => write!(f, " {namespace}/{}", self.name),
        }
    }
}

/// The text without what would move a terminal's cursor, or begin a line: whoever may write a binding may not write the
/// report about it.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|letter| if letter.is_control() { '?' } else { letter })
        .collect()
}
