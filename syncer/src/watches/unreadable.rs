//! Bindings that do not decode: the installed CRD may be older or newer than this process and allow what it does not
//! know. One of them must not stop the watch for all. It is skipped, told in the log, and handed over to
//! `unreadable::teller`, which tells its owner; once per generation, since the status that it gets is a change as well.

pub(super) mod teller;

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Resource,
    core::{DeserializeGuard, error_boundary::InvalidObject},
    runtime::watcher::Event,
};
use tokio::sync::mpsc;

use self::teller::Unreadable;
use crate::binding::ApiVersion;

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
#[derive(Debug)]
pub(super) struct Sieve {
    api: ApiVersion,
    teller: mpsc::Sender<Unreadable>,
    /// The version of each object that was told last, by uid.
    told: HashMap<String, String>,
    /// The same from before the list that is being read; what the list lacks is forgotten.
    told_before: HashMap<String, String>,
}

impl Sieve {
    /// One that hands over to `teller`.
    pub(super) fn new(api: ApiVersion, teller: mpsc::Sender<Unreadable>) -> Self {
        Self {
            api,
            teller,
            told: HashMap::new(),
            told_before: HashMap::new(),
        }
    }

    /// The API whose bindings it tells apart.
    pub(super) fn api(&self) -> ApiVersion {
        self.api
    }

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
                self.tell(&invalid);
                return Some(Delivery::Unreadable(Box::new(invalid.metadata)));
            }
            Event::Delete(DeserializeGuard(Err(invalid))) => {
                self.forget(&invalid.metadata);
                return Some(Delivery::Unreadable(Box::new(invalid.metadata)));
            }
            Event::InitApply(DeserializeGuard(Err(invalid))) => {
                self.tell(&invalid);
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

    fn tell(&mut self, invalid: &InvalidObject) {
        let metadata = &invalid.metadata;
        let uid = metadata.uid.clone().unwrap_or_default();
        let version = version(metadata);
        let before = self.told_before.get(&uid).or_else(|| self.told.get(&uid));
        if before != Some(&version) {
            tracing::warn!(
                api = self.api.as_str(),
                namespace = metadata.namespace,
                name = metadata.name,
                version,
                error = invalid.error,
                "a binding does not decode and is skipped: upgrade the syncer, or write what its CRD allows"
            );
            let unreadable = Unreadable::new(self.api, metadata, &invalid.error);
            if self.teller.try_send(unreadable).is_err() {
                tracing::warn!("too many bindings do not decode: this one gets no status");
            }
        }
        self.told.insert(uid, version);
    }

    fn forget(&mut self, metadata: &ObjectMeta) {
        if let Some(uid) = &metadata.uid {
            self.told.remove(uid);
        }
    }
}

/// What changes when somebody writes another spec, and not when we write the status.
fn version(metadata: &ObjectMeta) -> String {
    let generation = metadata.generation.map(|generation| generation.to_string());
    generation
        .or_else(|| metadata.resource_version.clone())
        .unwrap_or_default()
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

    /// As many as wait here at most.
    const WAITING: usize = 8;

    fn sieve() -> (Sieve, mpsc::Receiver<Unreadable>) {
        let (teller, handed_over) = mpsc::channel(WAITING);
        (Sieve::new(ApiVersion::V1Beta2, teller), handed_over)
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
        let (mut sieve, mut handed_over) = sieve();
        let mut delivered = Vec::new();
        for binding in list.items {
            if let Some(Delivery::Event(Event::InitApply(binding))) = sieve.sift(Event::InitApply(binding)) {
                delivered.push(binding);
            }
        }
        let expected = ["one", "three"].map(|name| manifest(name, workload_identity_spec()));
        assert_eq!(delivered, expected);
        let told = handed_over.try_recv().unwrap();
        assert_eq!(told.binding.name, "two");
        assert!(told.complaint.contains("MoonCloud"), "{told:?}");
        assert!(handed_over.is_empty());
    }

    #[test]
    fn sieve_tells_a_generation_once_whatever_status_it_gets() {
        let (mut sieve, mut handed_over) = sieve();
        for (generation, resource_version) in [(3, "100"), (3, "101"), (4, "102"), (4, "103")] {
            let mut object = bad("web");
            object["metadata"]["generation"] = json!(generation);
            object["metadata"]["resourceVersion"] = json!(resource_version);
            sieve.sift(Event::Apply(guarded(object)));
        }
        let told: Vec<_> = std::iter::from_fn(|| handed_over.try_recv().ok())
            .map(|told| told.generation)
            .collect();
        assert_eq!(told, [Some(3), Some(4)]);
    }

    #[test]
    fn sieve_that_nobody_empties_goes_on() {
        let (mut sieve, handed_over) = sieve();
        for number in 0..3 * WAITING {
            sieve.sift(Event::Apply(guarded(bad(&format!("web-{number}")))));
        }
        assert_eq!(handed_over.len(), WAITING);
    }

    #[test]
    fn sieve_change_to_a_bad_binding_delivers_its_metadata() {
        let (mut sieve, _handed_over) = sieve();
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
        let (mut sieve, _handed_over) = sieve();
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
