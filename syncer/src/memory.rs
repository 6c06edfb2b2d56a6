//! What the process remembers of each binding between passes. All of it may be lost: a restart loses it, and costs
//! at most one early attempt for a binding that fails; nothing that is still fresh is fetched again.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use k8s_openapi::jiff::Timestamp;
use proto::Reason;

use crate::{
    binding::BindingRef, contest::Contest, crd::AcrPullBindingStatus, finalizer::Handover,
    pull_secret::PullSecret, schedule::FailureRun, status::Reminder, steady::Steady,
    unread_secret::UnreadSecret,
};

/// One entry per binding that exists.
#[derive(Debug, Default)]
pub struct Memory {
    bindings: Mutex<HashMap<BindingRef, BindingMemory>>,
    /// Bindings whose Secret is known not to be somebody else's, and that no other controller works on.
    linkable: Mutex<HashSet<BindingRef>>,
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
    value: T,
}

impl<T: Clone> Echo<T> {
    /// After a write that replaced version `over`, and earlier writes whose echo is `previous`.
    pub fn after(previous: Option<&Self>, over: impl IntoIterator<Item = String>, value: T) -> Self {
        let mut superseded = previous.map(|echo| echo.superseded.clone()).unwrap_or_default();
        for version in over {
            if !superseded.contains(&version) {
                superseded.push(version);
            }
        }
        Self { superseded, value }
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
    fn new(uid: &str, now: Timestamp) -> Self {
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
            unread: UnreadSecret::default(),
            stored_inputs: None,
            secret_contest: Contest::default(),
            status: None,
            status_not_kept: None,
            status_written_at: None,
            reminder: Reminder::default(),
            link_measured: false,
            ready_measured: false,
        }
    }
}

impl Memory {
    /// What is known of a binding; nothing if the name now belongs to another object.
    pub fn of(&self, key: &BindingRef, uid: &str, now: Timestamp) -> BindingMemory {
        let known = self
            .entries()
            .get(key)
            .filter(|memory| memory.uid == uid)
            .cloned();
        known.unwrap_or_else(|| BindingMemory::new(uid, now))
    }

    /// Remembers.
    pub fn keep(&self, key: BindingRef, memory: BindingMemory) {
        self.entries().insert(key, memory);
    }

    /// The Secret under a binding's name is gone, and with it what stood in the way: the next attempt need not wait.
    pub fn conflict_is_over(&self, key: &BindingRef) {
        if let Some(memory) = self.entries().get_mut(key) {
            let conflict = |run: &FailureRun| run.problem.reason == Reason::SecretConflict;
            memory.failures = memory.failures.take().filter(|run| !conflict(run));
        }
    }

    /// Whether the Secret of a binding may be linked by whoever works on the ServiceAccount, see `Plan::may_link`.
    pub fn allow_link(&self, key: &BindingRef, allowed: bool) {
        let mut linkable = self.linkable();
        if !allowed {
            linkable.remove(key);
        } else if !linkable.contains(key) {
            linkable.insert(key.clone());
        }
    }

    /// Whether [`Self::allow_link`] said so.
    pub fn allows_link(&self, key: &BindingRef) -> bool {
        self.linkable().contains(key)
    }

    /// Forgets a binding.
    pub fn forget(&self, key: &BindingRef) {
        self.entries().remove(key);
        self.linkable().remove(key);
    }

    /// Forgets all bindings that are gone.
    pub fn retain(&self, exists: impl Fn(&BindingRef) -> bool) {
        self.entries().retain(|key, _memory| exists(key));
        self.linkable().retain(|key| exists(key));
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<BindingRef, BindingMemory>> {
        self.bindings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn linkable(&self) -> MutexGuard<'_, HashSet<BindingRef>> {
        self.linkable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;
    use crate::{
        binding::ApiVersion,
        problem::Problem,
        pull_secret::{self, SecretState},
        samples::{binding, key, now, owner, workload_identity_spec},
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
    fn memory_of_a_binding_of_the_other_api_is_apart() {
        let memory = Memory::default();
        let [current, older] = ApiVersion::ALL.map(|api| key(api, "web"));
        let mut known = memory.of(&current, "one", now());
        known.degraded = true;
        memory.keep(current.clone(), known);
        memory.allow_link(&current, true);
        assert!(!memory.of(&older, "one", now()).degraded);
        assert!(!memory.allows_link(&older));
        memory.forget(&older);
        assert!(memory.of(&current, "one", now()).degraded);
        assert!(memory.allows_link(&current));
    }

    #[test]
    fn memory_of_a_conflict_ends_with_the_secret_and_that_of_other_failures_does_not() {
        let memory = Memory::default();
        let key = key(ApiVersion::V1Beta2, "web");
        for (reason, is_over) in [(Reason::SecretConflict, true), (Reason::PolicyDenied, false)] {
            let mut known = memory.of(&key, "one", now());
            let problem = Problem::new(reason, "no");
            known.failures = Some(FailureRun::after(None, "inputs", problem, now(), 0.0));
            memory.keep(key.clone(), known);
            memory.conflict_is_over(&key);
            assert_eq!(memory.of(&key, "one", now()).failures.is_none(), is_over);
        }
    }

    #[test]
    fn memory_of_another_object_of_the_same_name_is_empty() {
        let memory = Memory::default();
        let key = key(ApiVersion::V1Beta2, "web");
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
