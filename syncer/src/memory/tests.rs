use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::runtime::watcher::Event;

use super::*;
use crate::{
    binding::{ApiVersion, PerApi},
    indexed::IndexedWriter,
    pull_secret::{self, SecretState},
    samples::{binding, binding_of, now, owner, workload_identity_spec},
    snapshot,
};

#[test]
fn echo_counts_until_the_watch_has_caught_up() {
    let first = Echo::after(None, ["1".to_owned()], "after first");
    let mut echo = Some(Echo::after(Some(&first), ["2".to_owned()], "after second"));
    assert_eq!(Echo::newer(&mut echo, "1", "seen"), "after second");
    assert_eq!(Echo::newer(&mut echo, "2", "seen"), "after second");
    assert_eq!(Echo::newer(&mut echo, "3", "seen"), "seen");
    assert!(echo.is_none());
    assert_eq!(Echo::newer(&mut echo, "1", "seen"), "seen");
}

#[test]
fn echo_of_a_watch_that_lags_keeps_each_version_once() {
    let mut echo: Option<Echo<&str>> = None;
    for _write in 0..1000 {
        echo = Some(Echo::after(echo.as_ref(), ["1".to_owned()], "written"));
    }
    assert_eq!(echo.unwrap().superseded, ["1"]);
}

#[test]
fn echo_of_a_thousand_writes_that_the_watch_saw_keeps_one_version() {
    let mut binding = binding("web", workload_identity_spec());
    let mut seen = ObjectMeta {
        uid: Some("uid-of-secret".to_owned()),
        labels: Some([(pull_secret::BINDING_LABEL.to_owned(), "web".to_owned())].into()),
        owner_references: Some(vec![owner(&binding)]),
        ..ObjectMeta::default()
    };
    let mut memory = BindingMemory::new("uid-of-web", now());
    for version in (1..=1000).map(|version: u32| version.to_string()) {
        binding.metadata.resource_version = Some(version.clone());
        let status = snapshot::status(&binding, &mut memory);
        memory.status = Some(Echo::after(memory.status.as_ref(), [version.clone()], status));
        assert_eq!(memory.status.as_ref().unwrap().superseded, [version.as_str()]);

        seen.resource_version = Some(version.clone());
        let SecretState::Ours(secret) = snapshot::watched_secret(&seen, &binding, &mut memory) else {
            panic!("the Secret is the binding's");
        };
        assert_eq!(secret.resource_version, version);
        memory.secret = Some(Echo::after(memory.secret.as_ref(), [version.clone()], secret));
        assert_eq!(memory.secret.as_ref().unwrap().superseded, [version]);
    }
}

#[test]
fn echo_of_a_second_write_outlives_the_sight_of_the_first() {
    let first = Echo::after(None, ["1".to_owned()], "after first").at(Some("2".to_owned()));
    // The same pass, so by what it has read the second is over "1" as well.
    let second = Echo::after(Some(&first), ["1".to_owned()], "after second").at(Some("3".to_owned()));
    let mut echo = Some(second);
    assert_eq!(Echo::newer(&mut echo, "1", "seen"), "after second");
    assert_eq!(Echo::newer(&mut echo, "2", "seen"), "after second");
    assert_eq!(Echo::newer(&mut echo, "3", "seen"), "seen");
}

#[test]
fn echo_of_a_write_that_changed_nothing_ends_with_the_version_that_it_found() {
    let first = Echo::after(None, ["1".to_owned()], "written").at(Some("2".to_owned()));
    let same = Echo::after(Some(&first), ["1".to_owned()], "written").at(Some("2".to_owned()));
    let mut echo = Some(same);
    assert_eq!(Echo::newer(&mut echo, "2", "seen"), "seen");
}

/// A memory of these bindings, and the end that fills their store.
fn memory_of(known: &[&Binding]) -> (Memory, PerApi<IndexedWriter<Binding>>) {
    let (bindings, mut writers) = Bindings::empty();
    for binding in known {
        let event = Event::Apply(Binding::clone(binding));
        writers.of_mut(binding.api).apply_watcher_event(&event);
    }
    (Memory::new(bindings), writers)
}

fn degraded(binding: &Binding) -> BindingMemory {
    BindingMemory {
        degraded: true,
        ..BindingMemory::new(binding.metadata.uid.as_deref().unwrap(), now())
    }
}

#[test]
fn memory_of_a_binding_of_the_other_api_is_apart() {
    let [current, older] = ApiVersion::ALL.map(|api| binding_of(api, "web"));
    let (memory, _writers) = memory_of(&[&current, &older]);
    memory.keep(current.key(), degraded(&current));
    memory.allow_link(&current, true);
    assert!(!memory.of(&older.key(), "uid-of-web", now()).degraded);
    assert!(!memory.allows_link(&older));
    memory.forget(&older.key());
    assert!(memory.of(&current.key(), "uid-of-web", now()).degraded);
    assert!(memory.allows_link(&current));
}

#[test]
fn memory_of_another_object_of_the_same_name_is_empty() {
    let web = binding_of(ApiVersion::V1Beta2, "web");
    let (memory, _writers) = memory_of(&[&web]);
    memory.keep(web.key(), degraded(&web));
    assert!(memory.of(&web.key(), "uid-of-web", now()).degraded);
    assert!(!memory.of(&web.key(), "two", now()).degraded);
    memory.allow_link(&web, true);
    assert!(memory.allows_link(&web));
    memory.retain(|_| false);
    assert!(!memory.of(&web.key(), "uid-of-web", now()).degraded);
    assert!(!memory.allows_link(&web));
}

#[test]
fn memory_of_a_binding_that_goes_while_its_pass_waits_is_not_kept() {
    for api in ApiVersion::ALL {
        let web = binding_of(api, "web");
        let (memory, mut writers) = memory_of(&[&web]);
        let event = Event::Delete(web.clone());
        writers.of_mut(api).apply_watcher_event(&event);
        memory.forget(&web.key());
        // The end of the pass.
        memory.keep(web.key(), degraded(&web));
        memory.allow_link(&web, true);
        assert!(memory.entries().is_empty() && memory.linkable().is_empty());

        let mut next = web.clone();
        next.metadata.uid = Some("uid-of-the-next".to_owned());
        let event = Event::Apply(next.clone());
        writers.of_mut(api).apply_watcher_event(&event);
        memory.allow_link(&web, true);
        assert!(!memory.allows_link(&next), "its Secret was not looked at");
        memory.allow_link(&next, true);
        memory.allow_link(&web, false);
        memory.keep(web.key(), degraded(&web));
        assert!(memory.allows_link(&next) && !memory.allows_link(&web));
        assert!(memory.entries().is_empty());
    }
}
