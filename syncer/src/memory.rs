//! What the process remembers of each binding between passes. All of it may be lost: a restart loses it, and costs
//! at most one early attempt for a binding that fails; nothing that is still fresh is fetched again.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt as _;
use proto::Reason;

use crate::{
    binding::{Binding, BindingRef, Bindings},
    contest::Contest,
    crd::AcrPullBindingStatus,
    finalizer::Handover,
    pull_secret::PullSecret,
    schedule::FailureRun,
    status::Reminder,
    steady::Steady,
    unread_secret::UnreadSecret,
};

/// One entry per binding that exists: the end of one that is deleted while a pass works on it finds nothing to remember.
#[derive(Debug)]
pub struct Memory {
    entries: Mutex<HashMap<BindingRef, BindingMemory>>,
    /// Bindings whose Secret is known not to be somebody else's, and that no other controller works on, with their uid.
    linkable: Mutex<HashMap<BindingRef, String>>,
    /// Those that exist.
    bindings: Bindings,
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
    /// What its time is measured from.
    pub steady: Steady,
    /// The refresh request for which Azure was last asked by force.
    pub forced_request: Option<String>,
    /// The broker handed out an older credential because Azure did not renew it.
    pub degraded: bool,
    /// What became of the peer's finalizer, if it was there.
    pub handover: Option<Handover>,
    /// What the registry granted, as the last answer said.
    pub granted_scope: Option<String>,
    /// The Secret after our last write.
    pub secret: Option<Echo<PullSecret>>,
    /// Writes of the Secret in a row that somebody else was faster than.
    pub outpaced: u32,
    /// Questions to the broker in a row that were given up because the binding had changed.
    pub outdated: u32,
    /// The Secret, where it may not be read.
    pub unread: UnreadSecret,
    /// The inputs of the payload that this process wrote last.
    pub stored_inputs: Option<String>,
    /// How often the same had to be written into the Secret.
    pub secret_contest: Contest,
    /// The status after our last write.
    pub status: Option<Echo<AcrPullBindingStatus>>,
    /// The same, if the installed CRD is an older one that keeps only a part of it.
    pub status_not_kept: Option<AcrPullBindingStatus>,
    /// When that was.
    pub status_written_at: Option<Timestamp>,
    /// Why it may not be written, as an event has said.
    pub status_denied: Option<Reason>,
    /// When the failure that goes on was told by an event.
    pub reminder: Reminder,
    /// Its link was seen, so the delay until then has been measured.
    pub link_measured: bool,
    /// The same for its readiness.
    pub ready_measured: bool,
}

/// What an object looked like after our own write, for as long as the watch still shows an earlier version.
///
/// Versions can only be compared for equality, so the ones that our writes replaced are kept; until the watch shows
/// none of them any more, see [`Self::newer`].
#[derive(Debug, Clone)]
pub struct Echo<T> {
    superseded: Vec<String>,
    /// The version that the write came to, if that is known beside the value.
    version: Option<String>,
    value: T,
}

impl<T: Clone> Echo<T> {
    /// After a write that replaced version `over`, and earlier writes whose echo is `previous`.
    pub fn after(previous: Option<&Self>, over: impl IntoIterator<Item = String>, value: T) -> Self {
        let mut superseded = previous.map(|echo| echo.superseded.clone()).unwrap_or_default();
        let written = previous.and_then(|echo| echo.version.clone());
        for version in over.into_iter().chain(written) {
            if !superseded.contains(&version) {
                superseded.push(version);
            }
        }
        Self {
            superseded,
            version: None,
            value,
        }
    }

    /// The same of a write that came to this version: the next write replaces it, before the watch has shown it even.
    #[must_use]
    pub fn at(mut self, version: Option<String>) -> Self {
        // A write that changes nothing comes to the version that it found.
        self.superseded.retain(|over| Some(over) != version.as_ref());
        Self { version, ..self }
    }

    /// The newer of what was written and what is seen in `version`. Drops the echo when the watch has caught up: what
    /// it shows then is our write or newer, and it never goes back.
    pub fn newer(echo: &mut Option<Self>, version: &str, seen: T) -> T {
        match echo {
            Some(written) if written.is_over(version) => written.value.clone(),
            Some(_) | None => {
                *echo = None;
                seen
            }
        }
    }

    /// Whether `version` is one that our writes replaced.
    pub fn is_over(&self, version: &str) -> bool {
        self.superseded.iter().any(|over| over == version)
    }
}

impl BindingMemory {
    /// Of a binding that this process has not worked on.
    pub fn new(uid: &str, now: Timestamp) -> Self {
        Self {
            uid: uid.to_owned(),
            first_seen: now,
            failures: None,
            steady: Steady::default(),
            forced_request: None,
            degraded: false,
            handover: None,
            granted_scope: None,
            secret: None,
            outpaced: 0,
            outdated: 0,
            unread: UnreadSecret::default(),
            stored_inputs: None,
            secret_contest: Contest::default(),
            status: None,
            status_not_kept: None,
            status_written_at: None,
            status_denied: None,
            reminder: Reminder::default(),
            link_measured: false,
            ready_measured: false,
        }
    }
}

impl Memory {
    /// Of these bindings, nothing yet.
    pub fn new(bindings: Bindings) -> Self {
        Self {
            entries: Mutex::default(),
            linkable: Mutex::default(),
            bindings,
        }
    }

    /// What is known of a binding; nothing if the name now belongs to another object.
    pub fn of(&self, key: &BindingRef, uid: &str, now: Timestamp) -> BindingMemory {
        let known = self
            .entries()
            .get(key)
            .filter(|memory| memory.uid == uid)
            .cloned();
        known.unwrap_or_else(|| BindingMemory::new(uid, now))
    }

    /// Remembers, if the binding still exists.
    pub fn keep(&self, key: BindingRef, memory: BindingMemory) {
        let mut entries = self.entries();
        // With the entries in hand: it leaves the store before it is forgotten.
        if self.exists(&key, &memory.uid) {
            entries.insert(key, memory);
        }
    }

    /// Whether the Secret of a binding may be linked by whoever works on the ServiceAccount, see `Plan::may_link`.
    pub fn allow_link(&self, binding: &Binding, allowed: bool) {
        let (key, uid) = (binding.key(), binding.uid().unwrap_or_default());
        let mut linkable = self.linkable();
        // A pass of the one that had the name before says nothing about this one.
        if !self.exists(&key, &uid) {
            return;
        }
        if allowed {
            linkable.insert(key, uid);
        } else {
            linkable.remove(&key);
        }
    }

    /// Whether [`Self::allow_link`] said so of this very object.
    pub fn allows_link(&self, binding: &Binding) -> bool {
        let linkable = self.linkable();
        linkable.get(&binding.key()) == Some(&binding.uid().unwrap_or_default())
    }

    /// Forgets a binding.
    pub fn forget(&self, key: &BindingRef) {
        self.entries().remove(key);
        self.linkable().remove(key);
    }

    /// Forgets all bindings that are gone.
    pub fn retain(&self, exists: impl Fn(&BindingRef) -> bool) {
        self.entries().retain(|key, _memory| exists(key));
        self.linkable().retain(|key, _uid| exists(key));
    }

    /// The binding as it is now, if it is still there.
    pub fn present(&self, key: &BindingRef) -> Option<Arc<Binding>> {
        self.bindings.get(key)
    }

    fn exists(&self, key: &BindingRef, uid: &str) -> bool {
        let binding = self.present(key);
        binding.is_some_and(|binding| binding.metadata.uid.as_deref().unwrap_or_default() == uid)
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<BindingRef, BindingMemory>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn linkable(&self) -> MutexGuard<'_, HashMap<BindingRef, String>> {
        self.linkable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
