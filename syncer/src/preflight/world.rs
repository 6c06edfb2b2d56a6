//! What a cluster holds, as far as preflight looks at it: plain data that `read` fills and everything else judges.
//!
//! Of Secrets there is metadata only, as everywhere in the syncer.

use std::{collections::BTreeMap, fmt, sync::Arc};

use k8s_openapi::{
    api::core::v1::ServiceAccount,
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::ResourceExt as _;
use serde::Serialize;

use crate::binding::{ApiVersion, Binding, PerApi};

/// Where Helm notes the release that an object belongs to.
const HELM_RELEASE: &str = "meta.helm.sh/release-name";
const HELM_NAMESPACE: &str = "meta.helm.sh/release-namespace";

/// What was seen.
#[derive(Debug, Clone)]
pub(super) struct World {
    /// The bindings of both APIs, by namespace and name.
    pub(super) bindings: Vec<Arc<Binding>>,
    /// Those that do not decode.
    pub(super) unreadable: Vec<Unreadable>,
    /// The ServiceAccounts of their namespaces.
    pub(super) accounts: BTreeMap<Name, Arc<ServiceAccount>>,
    /// Secrets under names that belong to bindings, or marked as a binding's.
    pub(super) secrets: Look<BTreeMap<Name, ObjectMeta>>,
    /// The CRD of each API; none if it is not installed.
    pub(super) crds: PerApi<Look<Option<Crd>>>,
    /// Deployments of Azure/msi-acrpull that run.
    pub(super) peers: Look<Vec<Name>>,
    /// Names of the validating admission policies; none if the server has no such API.
    pub(super) policies: Look<Option<Vec<String>>>,
    /// The issuer of ServiceAccount tokens, where this user may read it.
    pub(super) issuer: Option<String>,
    /// No selector hides bindings.
    pub(super) is_whole: bool,
}

/// Something that the user may not be allowed to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Look<T> {
    /// It was looked at.
    Seen(T),
    /// The user's role does not allow it.
    Denied,
}

/// Names an object of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub(super) struct Name {
    pub(super) namespace: String,
    pub(super) name: String,
}

/// A binding that does not decode.
#[derive(Debug, Clone)]
pub(super) struct Unreadable {
    pub(super) api: ApiVersion,
    pub(super) metadata: ObjectMeta,
    pub(super) error: String,
}

/// What matters of an installed CRD.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Crd {
    /// Fields that its schema does not know, of those that somebody would miss. The API server drops them.
    pub(super) lacks: Vec<&'static str>,
    /// It is being deleted, and all its objects with it.
    pub(super) is_leaving: bool,
    /// The Helm release that it belongs to, as `namespace/name`.
    pub(super) release: Option<String>,
}

impl World {
    /// One in which nothing was seen yet.
    pub(super) fn empty(is_whole: bool) -> Self {
        Self {
            bindings: Vec::new(),
            unreadable: Vec::new(),
            accounts: BTreeMap::new(),
            secrets: Look::Denied,
            crds: PerApi::new(|_api| Look::Denied),
            peers: Look::Denied,
            policies: Look::Denied,
            issuer: None,
            is_whole,
        }
    }

    /// A ServiceAccount by its name.
    pub(super) fn account(&self, namespace: &str, name: &str) -> Option<&Arc<ServiceAccount>> {
        self.accounts.get(&Name::new(namespace, name))
    }

    /// The APIs, names and namespaces of all bindings, those included that do not decode.
    pub(super) fn all_bindings(&self) -> impl Iterator<Item = (ApiVersion, Name)> {
        let readable = self
            .bindings
            .iter()
            .map(|binding| (binding.api, Name::of(&binding.metadata)));
        let unreadable = self
            .unreadable
            .iter()
            .map(|binding| (binding.api, Name::of(&binding.metadata)));
        readable.chain(unreadable)
    }
}

impl<T> Look<T> {
    /// What was seen, if anything.
    pub(super) fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::Denied => None,
        }
    }
}

impl Name {
    /// The object `name` of `namespace`.
    pub(super) fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// The name of an object.
    pub(super) fn of(metadata: &ObjectMeta) -> Self {
        Self::new(
            metadata.namespace.as_deref().unwrap_or_default(),
            metadata.name.as_deref().unwrap_or_default(),
        )
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl Crd {
    /// The name of the CRD of `api`.
    pub(super) fn name(api: ApiVersion) -> String {
        format!("acrpullbindings.{}", api.group())
    }

    /// Judges the CRD of `api`.
    pub(super) fn of(crd: &CustomResourceDefinition, api: ApiVersion) -> Self {
        let annotations = crd.annotations();
        let release = annotations.get(HELM_RELEASE).map(|name| {
            let namespace = annotations.get(HELM_NAMESPACE).map_or("?", String::as_str);
            format!("{namespace}/{name}")
        });
        Self {
            lacks: missed(api)
                .iter()
                .filter(|field| !knows(crd, api, field).unwrap_or(false))
                .copied()
                .collect(),
            is_leaving: crd.metadata.deletion_timestamp.is_some(),
            release,
        }
    }
}

/// The fields that somebody would miss.
fn missed(api: ApiVersion) -> &'static [&'static str] {
    match api {
        ApiVersion::V1Beta2 => &["status.conditions", "spec.serviceAccountNames"],
        ApiVersion::V1Beta1 => &["status.conditions"],
    }
}

fn knows(crd: &CustomResourceDefinition, api: ApiVersion, field: &str) -> Option<bool> {
    let (part, field) = field.split_once('.')?;
    let version = crd
        .spec
        .versions
        .iter()
        .find(|version| version.name == api.version())?;
    let schema = version.schema.as_ref()?.open_api_v3_schema.as_ref()?;
    let part = schema.properties.as_ref()?.get(part)?;
    Some(part.properties.as_ref()?.contains_key(field))
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;

    use super::*;
    use crate::crd::{AcrPullBinding, v1beta1};

    #[test]
    fn crd_of_ours_lacks_nothing_and_an_older_one_lacks_fields() {
        let of_both = ["status.conditions", "spec.serviceAccountNames"];
        for (api, mut crd, lacks) in [
            (ApiVersion::V1Beta2, AcrPullBinding::crd(), &of_both[..]),
            (ApiVersion::V1Beta1, v1beta1::AcrPullBinding::crd(), &of_both[..1]),
        ] {
            let ours = Crd::of(&crd, api);
            assert!(ours.lacks.is_empty() && !ours.is_leaving, "{api:?}");
            assert_eq!(ours.release, None);

            let schema = crd.spec.versions[0].schema.as_mut().unwrap();
            let root = schema.open_api_v3_schema.as_mut().unwrap();
            for field in of_both {
                let (part, field) = field.split_once('.').unwrap();
                let part = root.properties.as_mut().unwrap().get_mut(part).unwrap();
                part.properties.as_mut().unwrap().remove(field);
            }
            let annotations = [(HELM_RELEASE, "acrpull"), (HELM_NAMESPACE, "acrpull-ns")];
            crd.metadata.annotations = Some(
                annotations
                    .map(|(key, value)| (key.to_owned(), value.to_owned()))
                    .into(),
            );
            let peers = Crd::of(&crd, api);
            assert_eq!(peers.lacks, lacks, "{api:?}");
            assert_eq!(peers.release.as_deref(), Some("acrpull-ns/acrpull"));
        }
    }
}
