//! Bindings that do not decode: the installed CRD may be older or newer than this process and allow what it does not
//! know. One of them must not stop the watch for all. It is skipped and told in the log, once per version.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::watcher::Event,
};

/// What a watch delivers.
#[derive(Debug)]
pub(super) enum Delivery<K> {
    /// As it came.
    Event(Event<K>),
    /// An object changed, or went, that does not decode.
    Unreadable(Box<ObjectMeta>),
}

impl<K> Delivery<K> {
    /// The same of another type.
    pub(super) fn map<T>(self, understand: impl Fn(K) -> T) -> Delivery<T> {
        match self {
            Self::Event(event) => Delivery::Event(match event {
                Event::Apply(object) => Event::Apply(understand(object)),
                Event::Delete(object) => Event::Delete(understand(object)),
                Event::InitApply(object) => Event::InitApply(understand(object)),
                Event::Init => Event::Init,
                Event::InitDone => Event::InitDone,
            }),
            Self::Unreadable(metadata) => Delivery::Unreadable(metadata),
        }
    }
}

/// Tells what decodes from what does not.
#[derive(Debug, Default)]
pub(super) struct Sieve {
    /// The version of each object that was told last, by uid.
    told: HashMap<String, String>,
    /// The same from before the list that is being read; what the list lacks is forgotten.
    told_before: HashMap<String, String>,
}

impl Sieve {
    /// What the watch delivers. None for an object of a list that does not decode: what a list lacks is gone.
    pub(super) fn sift<K>(&mut self, event: Event<DeserializeGuard<K>>) -> Option<Delivery<K>>
    where
        K: Resource<DynamicType = ()>,
    {
        let event = match event {
            Event::Apply(DeserializeGuard(Ok(object))) => {
                self.forget(object.meta());
                Event::Apply(object)
            }
            Event::Delete(DeserializeGuard(Ok(object))) => {
                self.forget(object.meta());
                Event::Delete(object)
            }
            Event::InitApply(DeserializeGuard(Ok(object))) => Event::InitApply(object),
            Event::Apply(DeserializeGuard(Err(invalid))) => {
                self.tell::<K>(&invalid);
                return Some(Delivery::Unreadable(Box::new(invalid.metadata)));
            }
            Event::Delete(DeserializeGuard(Err(invalid))) => {
                self.forget(&invalid.metadata);
                return Some(Delivery::Unreadable(Box::new(invalid.metadata)));
            }
            Event::InitApply(DeserializeGuard(Err(invalid))) => {
                self.tell::<K>(&invalid);
                return None;
            }
            Event::Init => {
                self.told_before.extend(self.told.drain());
                Event::Init
            }
            Event::InitDone => {
                self.told_before.clear();
                Event::InitDone
            }
        };
        Some(Delivery::Event(event))
    }

    fn tell<K>(&mut self, invalid: &InvalidObject)
    where
        K: Resource<DynamicType = ()>,
    {
        let metadata = &invalid.metadata;
        let uid = metadata.uid.clone().unwrap_or_default();
        let version = metadata.resource_version.clone().unwrap_or_default();
        let before = self.told_before.get(&uid).cloned();
        let before = self.told.insert(uid, version.clone()).or(before);
        if before.as_ref() != Some(&version) {
            tracing::warn!(
                kind = %K::kind(&()),
                namespace = metadata.namespace,
                name = metadata.name,
                version,
                error = invalid.error,
                "an object does not decode and is skipped: upgrade the syncer, or write what its CRD allows"
            );
        }
    }

    fn forget(&mut self, metadata: &ObjectMeta) {
        if let Some(uid) = &metadata.uid {
            self.told.remove(uid);
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectList;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        crd::AcrPullBinding,
        samples::{manifest, workload_identity_spec},
    };

    type Guarded = DeserializeGuard<AcrPullBinding>;

    fn good(name: &str) -> Value {
        serde_json::to_value(manifest(name, workload_identity_spec())).unwrap()
    }

    fn bad(name: &str) -> Value {
        let mut bad = good(name);
        bad["spec"]["acr"]["environment"] = json!("MoonCloud");
        bad
    }

    fn guarded(object: Value) -> Guarded {
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn sieve_list_with_a_bad_binding_delivers_the_others() {
        let list: ObjectList<Guarded> = serde_json::from_value(json!({
            "apiVersion": "acrpull.microsoft.com/v1beta2",
            "kind": "AcrPullBindingList",
            "metadata": {"resourceVersion": "100"},
            "items": [good("one"), bad("two"), good("three")],
        }))
        .unwrap();
        let mut sieve = Sieve::default();
        let mut delivered = Vec::new();
        for binding in list.items {
            if let Some(Delivery::Event(Event::InitApply(binding))) = sieve.sift(Event::InitApply(binding)) {
                delivered.push(binding);
            }
        }
        let expected = ["one", "three"].map(|name| manifest(name, workload_identity_spec()));
        assert_eq!(delivered, expected);
        assert_eq!(sieve.told["uid-of-two"], "100");
    }

    #[test]
    fn sieve_change_to_a_bad_binding_delivers_its_metadata() {
        let mut sieve = Sieve::default();
        for event in [
            Event::Apply(guarded(bad("web"))),
            Event::Delete(guarded(bad("web"))),
        ] {
            let Some(Delivery::Unreadable(metadata)) = sieve.sift(event) else {
                panic!("it decodes");
            };
            assert_eq!(metadata.name.as_deref(), Some("web"));
        }
        assert!(sieve.told.is_empty(), "what is gone is forgotten");
    }

    #[test]
    fn sieve_remembers_what_was_told_over_a_new_list_and_no_longer() {
        let mut sieve = Sieve::default();
        sieve.sift(Event::Apply(guarded(bad("stays"))));
        sieve.sift(Event::Apply(guarded(bad("goes"))));
        // The first list breaks off.
        sieve.sift(Event::<Guarded>::Init);
        sieve.sift(Event::<Guarded>::Init);
        assert_eq!(sieve.told_before.len(), 2);
        sieve.sift(Event::InitApply(guarded(bad("stays"))));
        sieve.sift(Event::<Guarded>::InitDone);
        assert!(sieve.told_before.is_empty());
        assert_eq!(sieve.told.len(), 1);
        sieve.sift(Event::Apply(guarded(good("stays"))));
        assert!(sieve.told.is_empty(), "what decodes again is forgotten");
    }
}
