//! What the process remembers of each binding between passes. All of it may be lost: a restart loses it, and costs
//! at most one early attempt for a binding that fails; nothing that is still fresh is fetched again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::jiff::Timestamp;
use kube::runtime::reflector::ObjectRef;

use crate::{
    crd::{AcrPullBinding, AcrPullBindingStatus},
    pull_secret::PullSecret,
    schedule::FailureRun,
};

/// One entry per binding that exists.
#[derive(Debug, Default)]
pub struct Memory {
    bindings: Mutex<HashMap<ObjectRef<AcrPullBinding>, BindingMemory>>,
    /// Bindings whose Secret is known not to be somebody else's.
    linkable: Mutex<HashSet<ObjectRef<AcrPullBinding>>>,
}

/// What is remembered of one binding.
#[derive(Debug, Clone)]
pub struct BindingMemory {
    /// The object that this is about; another one of the same name starts anew.
    pub uid: String,
    /// When this process first worked on it.
    pub first_seen: Timestamp,
    /// Failed attempts to obtain or store its credential.
    pub failures: Option<FailureRun>,
    /// The refresh request for which Azure was last asked by force.
    pub forced_request: Option<String>,
    /// The broker handed out an older credential because Azure did not renew it.
    pub degraded: bool,
    /// What the registry granted, as the last answer said.
    pub granted_scope: Option<String>,
    /// The Secret after our last write.
    pub secret: Option<Echo<PullSecret>>,
    /// The status after our last write.
    pub status: Option<Echo<AcrPullBindingStatus>>,
    /// When that was.
    pub status_written_at: Option<Timestamp>,
    /// Its link was seen, so the delay until then has been measured.
    pub link_measured: bool,
    /// The same for its readiness.
    pub ready_measured: bool,
}

/// What an object looked like after our own write, for as long as the watch still shows an earlier version.
///
/// Versions can only be compared for equality, so the ones that our writes replaced are kept.
#[derive(Debug, Clone)]
pub struct Echo<T> {
    superseded: Vec<String>,
    value: T,
}

impl<T: Clone> Echo<T> {
    /// After a write that replaced version `over`, and earlier writes whose echo is `previous`.
    pub fn after(previous: Option<&Self>, over: impl IntoIterator<Item = String>, value: T) -> Self {
        let mut superseded = previous.map(|echo| echo.superseded.clone()).unwrap_or_default();
        superseded.extend(over);
        Self { superseded, value }
    }

    /// The newer of what was written and what is seen in `version`.
    pub fn newer(echo: Option<&Self>, version: &str, seen: T) -> T {
        match echo {
            Some(echo) if echo.superseded.iter().any(|over| over == version) => echo.value.clone(),
            Some(_) | None => seen,
        }
    }
}

impl BindingMemory {
    fn new(uid: &str, now: Timestamp) -> Self {
        Self {
            uid: uid.to_owned(),
            first_seen: now,
            failures: None,
            forced_request: None,
            degraded: false,
            granted_scope: None,
            secret: None,
            status: None,
            status_written_at: None,
            link_measured: false,
            ready_measured: false,
        }
    }
}

impl Memory {
    /// What is known of a binding; nothing if the name now belongs to another object.
    pub fn of(&self, key: &ObjectRef<AcrPullBinding>, uid: &str, now: Timestamp) -> BindingMemory {
        let known = self
            .entries()
            .get(key)
            .filter(|memory| memory.uid == uid)
            .cloned();
        known.unwrap_or_else(|| BindingMemory::new(uid, now))
    }

    /// Remembers.
    pub fn keep(&self, key: ObjectRef<AcrPullBinding>, memory: BindingMemory) {
        self.entries().insert(key, memory);
    }

    /// Whether the Secret of a binding may be linked by whoever works on the ServiceAccount.
    pub fn allow_link(&self, key: &ObjectRef<AcrPullBinding>, allowed: bool) {
        let mut linkable = self.linkable();
        if !allowed {
            linkable.remove(key);
        } else if !linkable.contains(key) {
            linkable.insert(key.clone());
        }
    }

    /// Whether [`Self::allow_link`] said so.
    pub fn allows_link(&self, key: &ObjectRef<AcrPullBinding>) -> bool {
        self.linkable().contains(key)
    }

    /// Forgets a binding.
    pub fn forget(&self, key: &ObjectRef<AcrPullBinding>) {
        self.entries().remove(key);
        self.linkable().remove(key);
    }

    /// Forgets all bindings that are gone.
    pub fn retain(&self, exists: impl Fn(&ObjectRef<AcrPullBinding>) -> bool) {
        self.entries().retain(|key, _memory| exists(key));
        self.linkable().retain(|key| exists(key));
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<ObjectRef<AcrPullBinding>, BindingMemory>> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn linkable(&self) -> MutexGuard<'_, HashSet<ObjectRef<AcrPullBinding>>> {
        self.linkable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::now;

    #[test]
    fn echo_counts_until_the_watch_has_caught_up() {
        let first = Echo::after(None, ["1".to_owned()], "after first");
        let second = Echo::after(Some(&first), ["2".to_owned()], "after second");
        assert_eq!(Echo::newer(Some(&second), "1", "seen"), "after second");
        assert_eq!(Echo::newer(Some(&second), "2", "seen"), "after second");
        assert_eq!(Echo::newer(Some(&second), "3", "seen"), "seen");
        assert_eq!(Echo::newer(None, "1", "seen"), "seen");
    }

    #[test]
    fn memory_of_another_object_of_the_same_name_is_empty() {
        let memory = Memory::default();
        let key = ObjectRef::new("web").within("shop");
        let mut known = memory.of(&key, "one", now());
        known.degraded = true;
        memory.keep(key.clone(), known);
        assert!(memory.of(&key, "one", now()).degraded);
        assert!(!memory.of(&key, "two", now()).degraded);
        memory.allow_link(&key, true);
        assert!(memory.allows_link(&key));
        memory.retain(|_| false);
        assert!(!memory.of(&key, "one", now()).degraded);
        assert!(!memory.allows_link(&key));
    }
}
