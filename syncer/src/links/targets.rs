//! The ServiceAccounts that are to list the Secret of a binding, and how the links to them stand together. Pure.
//!
//! Each is linked for itself: one that is missing, or that somebody fights over, makes its own link wait and no other.

use std::{collections::BTreeSet, sync::Arc};

use k8s_openapi::{api::core::v1::ServiceAccount, jiff::Timestamp};

use super::has;
use crate::{contest::Fight, crd::AcrPullBindingSpec, problem::Problem};

/// So many names are told; a name may be long, and an event holds 1,024 characters.
const TOLD: usize = 3;

/// A ServiceAccount that is to list the Secret.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its name.
    pub name: String,
    /// As it is, if it exists.
    pub account: Option<Arc<ServiceAccount>>,
    /// Somebody keeps removing the link.
    pub fight: Option<Fight>,
}

/// How the links between ServiceAccounts and Secret stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// All are there and recorded.
    Present,
    /// Some are to be made.
    Missing,
    /// These ServiceAccounts do not exist.
    NoAccount(Vec<String>),
    /// Somebody keeps removing it from these ServiceAccounts.
    Contested(Vec<String>),
    /// It must not be made: the Secret belongs to somebody else.
    Withheld,
    /// It could not be made.
    Failed(Problem),
}

/// What is to be done about the links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Due {
    /// How they stand before that.
    pub link: Link,
    /// The ServiceAccounts that are to be linked now.
    pub accounts: Vec<String>,
    /// When to look again although nothing happened.
    pub wake_at: Option<Timestamp>,
}

impl AcrPullBindingSpec {
    /// The ServiceAccounts that become able to pull: the one that every binding has, and then the others by name.
    pub fn accounts(&self) -> Vec<&str> {
        let first = self.service_account_name.as_str();
        let others: BTreeSet<_> = self.service_account_names.iter().map(String::as_str).collect();
        std::iter::once(first)
            .chain(others.into_iter().filter(|name| *name != first))
            .collect()
    }

    /// Whether `account` is one of them.
    pub fn is_for(&self, account: &str) -> bool {
        self.service_account_name == account || self.service_account_names.iter().any(|name| name == account)
    }
}

/// Decides.
pub fn due(targets: &[Target], secret_name: &str, now: Timestamp) -> Due {
    let (mut missing, mut contested, mut accounts) = (Vec::new(), Vec::new(), Vec::new());
    let mut wake_at: Option<Timestamp> = None;
    for Target { name, account, fight } in targets {
        let Some(account) = account else {
            missing.push(name.clone());
            continue;
        };
        let is_linked = has(account, secret_name);
        let fight = fight.filter(|fight| now < fight.over_at);
        if fight.is_some() {
            contested.push(name.clone());
        }
        // What is to be done now needs no look at the clock: if it cannot be done, a retry follows.
        let look_at = match fight {
            Some(fight) if is_linked => Some(fight.over_at),
            Some(fight) if now < fight.next_at => Some(fight.next_at),
            Some(_) | None => None,
        };
        wake_at = wake_at.into_iter().chain(look_at).min();
        if !is_linked && look_at.is_none() {
            accounts.push(name.clone());
        }
    }
    missing.sort_unstable();
    contested.sort_unstable();
    let link = if !missing.is_empty() {
        Link::NoAccount(missing)
    } else if !contested.is_empty() {
        Link::Contested(contested)
    } else if !accounts.is_empty() {
        Link::Missing
    } else {
        Link::Present
    };
    Due {
        link,
        accounts,
        wake_at,
    }
}

/// ServiceAccounts for people, a few by name.
pub fn named(names: &[impl AsRef<str>]) -> String {
    let told = names.iter().take(TOLD).map(AsRef::as_ref).collect::<Vec<_>>();
    let kind = if names.len() == 1 {
        "ServiceAccount"
    } else {
        "ServiceAccounts"
    };
    match names.len().saturating_sub(TOLD) {
        0 => format!("{kind} {}", told.join(", ")),
        more => format!("{kind} {} and {more} more", told.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::ToSpan as _;

    use super::*;
    use crate::{
        links::tests::link,
        samples::{account, now, workload_identity_spec},
    };

    fn missing(name: &str) -> Target {
        Target {
            name: name.to_owned(),
            account: None,
            fight: None,
        }
    }

    fn unlinked(name: &str) -> Target {
        Target {
            account: Some(Arc::new(account(name))),
            ..missing(name)
        }
    }

    fn linked(name: &str) -> Target {
        let mut account = account(name);
        link(&mut account, "acr-pull-web");
        Target {
            account: Some(Arc::new(account)),
            ..missing(name)
        }
    }

    fn fought_over(target: Target) -> Target {
        let fight = Fight {
            next_at: now() + 1.minute(),
            over_at: now() + 10.minutes(),
        };
        Target {
            fight: Some(fight),
            ..target
        }
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn targets_accounts_of_a_spec_are_each_once_and_the_first_comes_first() {
        let mut spec = workload_identity_spec();
        assert_eq!(spec.accounts(), ["web"]);
        spec.service_account_names = names(&["worker", "batch", "web", "batch"]);
        assert_eq!(spec.accounts(), ["web", "batch", "worker"]);
        assert!(
            ["web", "batch", "worker"]
                .into_iter()
                .all(|name| spec.is_for(name))
        );
        assert!(!spec.is_for("other"));
    }

    #[test]
    fn targets_that_exist_are_linked_and_those_that_do_not_wait_alone() {
        let all = [missing("z"), linked("web"), unlinked("batch"), missing("a")];
        let due = due(&all, "acr-pull-web", now());
        assert_eq!(due.link, Link::NoAccount(names(&["a", "z"])));
        assert_eq!(due.accounts, ["batch"]);
        assert_eq!(due.wake_at, None);
    }

    #[test]
    fn targets_that_are_all_linked_need_nothing() {
        let settled = due(&[linked("web"), linked("batch")], "acr-pull-web", now());
        assert_eq!((settled.link, settled.accounts.len()), (Link::Present, 0));
        let fresh = due(&[linked("web"), unlinked("batch")], "acr-pull-web", now());
        assert_eq!(fresh.link, Link::Missing);
    }

    #[test]
    fn targets_that_are_fought_over_wait_and_others_do_not() {
        let all = [fought_over(unlinked("web")), unlinked("batch")];
        let waiting = due(&all, "acr-pull-web", now());
        assert_eq!(waiting.link, Link::Contested(names(&["web"])));
        assert_eq!(waiting.accounts, ["batch"]);
        assert_eq!(waiting.wake_at, Some(now() + 1.minute()));
        let repaired = due(&all, "acr-pull-web", now() + 1.minute());
        assert_eq!(repaired.accounts, ["web", "batch"]);
        assert_eq!(
            repaired.wake_at, None,
            "one that cannot be written must not be due again at once"
        );

        let held = due(&[fought_over(linked("web"))], "acr-pull-web", now());
        assert_eq!(held.link, Link::Contested(names(&["web"])));
        assert_eq!(
            (held.accounts.len(), held.wake_at),
            (0, Some(now() + 10.minutes()))
        );
    }

    #[test]
    fn targets_are_told_by_a_few_names() {
        assert_eq!(named(&["a"]), "ServiceAccount a");
        assert_eq!(named(&["a", "b", "c"]), "ServiceAccounts a, b, c");
        assert_eq!(
            named(&["a", "b", "c", "d", "e"]),
            "ServiceAccounts a, b, c and 2 more"
        );
    }
}
