//! Which links somebody keeps undoing, by ServiceAccount. Pure; `links::keeper` counts what it writes.
//!
//! Each link counts for itself: one write that takes the links of fifty bindings away undoes each of them once. But
//! where several are fought over, the first whose pause has passed takes the others along, because one write of ours costs
//! as much as the next, and as many of somebody else's. A ServiceAccount that was created again starts over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::runtime::reflector::ObjectRef;

use crate::contest::{Contest, Fight};

/// How many ServiceAccounts are remembered before those that are at peace are looked for.
const SWEEP_AT: usize = 256;

/// All of them.
#[derive(Debug, Default)]
pub struct Contests {
    accounts: HashMap<ObjectRef<ServiceAccount>, Links>,
    sweep_at: usize,
}

/// Those of one ServiceAccount.
#[derive(Debug, Default)]
struct Links {
    uid: Option<String>,
    by_name: BTreeMap<String, Contest>,
}

impl Contests {
    /// The fight over one link, if there is one.
    pub fn fight(
        &self,
        account: &ServiceAccount,
        secret_name: &str,
        now: Duration,
    ) -> Option<Fight<Duration>> {
        self.of(account)?.by_name.get(secret_name)?.fight(now)
    }

    /// Those of `missing` that are not to be made yet.
    pub fn held_back(
        &self,
        account: &ServiceAccount,
        missing: &BTreeSet<String>,
        now: Duration,
    ) -> BTreeSet<String> {
        let fights: BTreeMap<_, _> = missing
            .iter()
            .filter_map(|name| Some((name, self.fight(account, name, now)?)))
            .collect();
        if fights.values().any(|fight| fight.next_at <= now) {
            return BTreeSet::new();
        }
        fights.into_keys().cloned().collect()
    }

    /// Links were made, or made again.
    pub fn wrote<'a>(
        &mut self,
        account: &ServiceAccount,
        made: impl IntoIterator<Item = &'a String>,
        now: Duration,
        draw: f64,
    ) {
        for secret_name in made {
            let key = ObjectRef::from_obj(account);
            let links = self.accounts.entry(key).or_default();
            if links.uid != account.metadata.uid {
                *links = Links {
                    uid: account.metadata.uid.clone(),
                    by_name: BTreeMap::new(),
                };
            }
            let contest = links.by_name.entry(secret_name.clone()).or_default();
            contest.wrote(now, draw);
        }
        self.sweep(now);
    }

    /// Links were removed by us: making them again one day repairs nothing.
    pub fn removed(&mut self, account: &ServiceAccount, gone: &BTreeSet<String>) {
        if let Some(links) = self.accounts.get_mut(&ObjectRef::from_obj(account)) {
            links.by_name.retain(|name, _contest| !gone.contains(name));
        }
    }

    fn of(&self, account: &ServiceAccount) -> Option<&Links> {
        self.accounts
            .get(&ObjectRef::from_obj(account))
            .filter(|links| links.uid == account.metadata.uid)
    }

    /// Drops what is past, now and then: each time that twice as many are remembered as were left the last time.
    fn sweep(&mut self, now: Duration) {
        if self.accounts.len() < self.sweep_at.max(SWEEP_AT) {
            return;
        }
        self.accounts.retain(|_account, links| {
            links.by_name.retain(|_name, contest| !contest.is_past(now));
            !links.by_name.is_empty()
        });
        self.sweep_at = self.accounts.len() * 2;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::account;

    const MINUTE: Duration = Duration::from_secs(60);

    /// Some moment of a process that runs for a while.
    fn now() -> Duration {
        MINUTE * 1_000
    }

    fn of_uid(name: &str, uid: &str) -> ServiceAccount {
        let mut account = account(name);
        account.metadata.uid = Some(uid.to_owned());
        account
    }

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn fought_over(links: &[&str]) -> (Contests, ServiceAccount) {
        let (mut contests, web) = (Contests::default(), of_uid("web", "1"));
        for _write in 0..5 {
            contests.wrote(&web, &names(links), now(), 0.0);
        }
        (contests, web)
    }

    #[test]
    fn contests_links_of_fifty_bindings_that_are_removed_once_are_no_fight() {
        let (mut contests, web) = (Contests::default(), of_uid("web", "1"));
        let fifty: BTreeSet<_> = (0..50).map(|number| format!("acr-pull-{number}")).collect();
        // Made together; then removed one after the other, by fifty different writes.
        contests.wrote(&web, &fifty, now(), 0.0);
        for name in &fifty {
            contests.wrote(&web, [name], now(), 0.0);
        }
        assert!(
            fifty
                .iter()
                .all(|name| contests.fight(&web, name, now()).is_none())
        );
        assert_eq!(contests.held_back(&web, &fifty, now()), names(&[]));
    }

    #[test]
    fn contests_fight_over_one_link_holds_back_no_other() {
        let (mut contests, web) = fought_over(&["acr-pull-one"]);
        contests.wrote(&web, &names(&["acr-pull-two"]), now(), 0.0);
        let missing = names(&["acr-pull-one", "acr-pull-two", "acr-pull-new"]);
        assert_eq!(
            contests.held_back(&web, &missing, now()),
            names(&["acr-pull-one"])
        );
        assert_eq!(contests.held_back(&web, &missing, now() + MINUTE), names(&[]));
        let other = of_uid("other", "2");
        assert_eq!(contests.held_back(&other, &missing, now()), names(&[]));
    }

    #[test]
    fn contests_first_link_whose_pause_has_passed_takes_the_others_along() {
        let (mut contests, web) = fought_over(&["acr-pull-one"]);
        let later = now() + MINUTE / 2;
        for _write in 0..5 {
            contests.wrote(&web, &names(&["acr-pull-two"]), later, 0.0);
        }
        let both = names(&["acr-pull-one", "acr-pull-two"]);
        assert_eq!(contests.held_back(&web, &both, later), both);
        let due = now() + MINUTE;
        assert_eq!(contests.held_back(&web, &both, due), names(&[]));
        // One that is there does not let another one pass.
        let two = names(&["acr-pull-two"]);
        assert_eq!(contests.held_back(&web, &two, due), two);
    }

    #[test]
    fn contests_account_that_was_created_again_starts_over() {
        let (mut contests, web) = fought_over(&["acr-pull-one"]);
        let again = of_uid("web", "2");
        assert!(contests.fight(&web, "acr-pull-one", now()).is_some());
        assert_eq!(contests.fight(&again, "acr-pull-one", now()), None);
        contests.wrote(&again, &names(&["acr-pull-one"]), now(), 0.0);
        assert_eq!(contests.fight(&again, "acr-pull-one", now()), None);
    }

    #[test]
    fn contests_link_that_we_removed_ourselves_starts_over() {
        let (mut contests, web) = (Contests::default(), of_uid("web", "1"));
        let one = names(&["acr-pull-one"]);
        for _life in 0..20 {
            contests.wrote(&web, &one, now(), 0.0);
            contests.removed(&web, &one);
        }
        assert_eq!(contests.fight(&web, "acr-pull-one", now()), None);
    }

    #[test]
    fn contests_that_are_past_are_forgotten() {
        let mut contests = Contests::default();
        for number in 0..10_000 {
            let account = of_uid(&format!("account-{number}"), "1");
            let at = now() + Duration::from_secs(number * 10);
            contests.wrote(&account, &names(&["acr-pull-one"]), at, 0.0);
            assert!(contests.accounts.len() <= SWEEP_AT);
        }
    }
}
