//! The bindings that the watches know, of both APIs as one. A store each, because a watch fills its own.

use std::sync::Arc;

use kube::runtime::reflector::Store;

use super::{ApiVersion, Binding, BindingRef};
use crate::indexed::{self, Indexed, IndexedWriter};

/// One for each API.
#[derive(Debug, Clone)]
pub struct PerApi<T> {
    /// For `acrpull.microsoft.com/v1beta2`.
    pub v1beta2: T,
    /// For `msi-acrpull.microsoft.com/v1beta1`.
    pub v1beta1: T,
}

impl<T> PerApi<T> {
    /// Makes one for each.
    pub fn new(mut make: impl FnMut(ApiVersion) -> T) -> Self {
        Self {
            v1beta2: make(ApiVersion::V1Beta2),
            v1beta1: make(ApiVersion::V1Beta1),
        }
    }

    /// The one for `api`.
    pub fn of(&self, api: ApiVersion) -> &T {
        match api {
            ApiVersion::V1Beta2 => &self.v1beta2,
            ApiVersion::V1Beta1 => &self.v1beta1,
        }
    }

    /// The one for `api`.
    pub fn of_mut(&mut self, api: ApiVersion) -> &mut T {
        match api {
            ApiVersion::V1Beta2 => &mut self.v1beta2,
            ApiVersion::V1Beta1 => &mut self.v1beta1,
        }
    }
}

/// The bindings that the watches know.
#[derive(Debug, Clone)]
pub struct Bindings(PerApi<Indexed<Binding>>);

impl Bindings {
    /// Empty ones, and the ends that fill them.
    pub fn empty() -> (Self, PerApi<IndexedWriter<Binding>>) {
        let (v1beta2, current) = indexed::store(ApiVersion::V1Beta2);
        let (v1beta1, older) = indexed::store(ApiVersion::V1Beta1);
        let writers = PerApi {
            v1beta2: current,
            v1beta1: older,
        };
        (Self(PerApi { v1beta2, v1beta1 }), writers)
    }

    /// Those of one API.
    pub fn of(&self, api: ApiVersion) -> &Store<Binding> {
        self.0.of(api).store()
    }

    /// A binding by its name.
    pub fn get(&self, key: &BindingRef) -> Option<Arc<Binding>> {
        self.of(key.dyntype).get(key)
    }

    /// Whether a namespace has any.
    pub fn any_in(&self, namespace: &str) -> bool {
        !self.in_namespace(namespace, |_binding| true).is_empty()
    }

    /// Those of a namespace for which `predicate` holds.
    pub fn in_namespace(&self, namespace: &str, predicate: impl Fn(&Binding) -> bool) -> Vec<Arc<Binding>> {
        ApiVersion::ALL
            .into_iter()
            .flat_map(|api| self.0.of(api).in_namespace(namespace, &predicate))
            .collect()
    }
}
