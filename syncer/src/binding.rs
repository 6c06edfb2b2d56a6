//! A binding of either API, as everything behind the watches knows it. What the two APIs write differently is made
//! one here; what remains different is the [`ApiVersion`], which is part of a binding's key: a binding of each, with the
//! same name in the same namespace, live side by side.
//!
//! The spec is that of `v1beta2`, because it can say all that `v1beta1` can. Pure.

mod account_ref;
mod older;
mod slim;
mod stores;

use std::borrow::Cow;

use k8s_openapi::{NamespaceResourceScope, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Resource, runtime::reflector::ObjectRef};

pub use account_ref::AccountRef;
pub use older::{Defaults, account_of};
pub use slim::slim;
pub use stores::{Bindings, PerApi};

use crate::crd::{self, AcrPullBindingSpec, AcrPullBindingStatus};

/// The kind, the same in both groups.
const KIND: &str = "AcrPullBinding";
const PLURAL: &str = "acrpullbindings";

/// The API that a binding is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ApiVersion {
    /// `acrpull.microsoft.com/v1beta2`.
    V1Beta2,
    /// `msi-acrpull.microsoft.com/v1beta1`, the older one.
    V1Beta1,
}

/// A binding.
#[derive(Debug, Clone, PartialEq)]
pub struct Binding {
    /// The API that it is written in.
    pub api: ApiVersion,
    /// As Kubernetes keeps it.
    pub metadata: ObjectMeta,
    /// What it asks for. The defaults of `v1beta1` are filled in.
    pub spec: AcrPullBindingSpec,
    /// How its `serviceAccountRef` is read.
    pub account_ref: AccountRef,
    /// What the syncer said last.
    pub status: Option<AcrPullBindingStatus>,
}

/// Names a binding, its API included.
pub type BindingRef = ObjectRef<Binding>;

impl ApiVersion {
    /// Both, in the order in which a ServiceAccount lists the Secrets of their bindings.
    pub const ALL: [Self; 2] = [Self::V1Beta2, Self::V1Beta1];

    /// The group of the API.
    pub const fn group(self) -> &'static str {
        match self {
            Self::V1Beta2 => "acrpull.microsoft.com",
            Self::V1Beta1 => "msi-acrpull.microsoft.com",
        }
    }

    /// The version within the group.
    pub const fn version(self) -> &'static str {
        match self {
            Self::V1Beta2 => "v1beta2",
            Self::V1Beta1 => "v1beta1",
        }
    }

    /// Both, as a manifest has them.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1Beta2 => "acrpull.microsoft.com/v1beta2",
            Self::V1Beta1 => "msi-acrpull.microsoft.com/v1beta1",
        }
    }

    /// The API of a reference to a binding, whatever version of the group it names.
    pub fn of_reference(api_version: &str, kind: &str) -> Option<Self> {
        let (group, _version) = api_version.split_once('/')?;
        Self::ALL
            .into_iter()
            .find(|api| kind == KIND && group == api.group())
    }
}

impl Binding {
    /// Its name, namespace and API.
    pub fn key(&self) -> BindingRef {
        ObjectRef::from_obj_with(self, self.api)
    }
}

impl From<crd::AcrPullBinding> for Binding {
    fn from(binding: crd::AcrPullBinding) -> Self {
        let crd::AcrPullBinding {
            metadata,
            spec,
            status,
        } = binding;
        Self {
            api: ApiVersion::V1Beta2,
            metadata,
            spec,
            account_ref: AccountRef::default(),
            status,
        }
    }
}

impl Resource for Binding {
    type DynamicType = ApiVersion;
    type Scope = NamespaceResourceScope;

    fn kind(_api: &ApiVersion) -> Cow<'_, str> {
        KIND.into()
    }

    fn group(api: &ApiVersion) -> Cow<'_, str> {
        api.group().into()
    }

    fn version(api: &ApiVersion) -> Cow<'_, str> {
        api.version().into()
    }

    fn plural(_api: &ApiVersion) -> Cow<'_, str> {
        PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn api_version_of_a_reference_goes_by_its_group_and_kind() {
        for (api_version, kind, api) in [
            ("acrpull.microsoft.com/v1beta2", KIND, Some(ApiVersion::V1Beta2)),
            ("acrpull.microsoft.com/v1", KIND, Some(ApiVersion::V1Beta2)),
            (
                "msi-acrpull.microsoft.com/v1beta1",
                KIND,
                Some(ApiVersion::V1Beta1),
            ),
            ("acrpull.microsoft.com/v1beta2", "Deployment", None),
            ("other.example/v1beta2", KIND, None),
            ("v1", KIND, None),
        ] {
            assert_eq!(
                ApiVersion::of_reference(api_version, kind),
                api,
                "{api_version} {kind}"
            );
        }
        for api in ApiVersion::ALL {
            assert_eq!(ApiVersion::of_reference(api.as_str(), KIND), Some(api));
            assert_eq!(Binding::api_version(&api), api.as_str());
        }
    }

    #[test]
    fn binding_of_each_api_with_one_name_have_keys_of_their_own() {
        let key = |api| BindingRef::new_with("web", api).within("shop");
        assert_ne!(key(ApiVersion::V1Beta1), key(ApiVersion::V1Beta2));
        assert_eq!(key(ApiVersion::V1Beta1), key(ApiVersion::V1Beta1));
    }
}
