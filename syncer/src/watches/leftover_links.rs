//! Wakes ServiceAccounts whose record holds a link that no binding asks for, now and then. The end of a binding that the
//! label selector did not match is seen by nobody, so its link would stay until the next start.
//!
//! Whether the link goes is decided where all are, by a live look: a binding that this process does not see may stand
//! behind it. That costs a list or two, so they are woken one after the other, and seldom.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use futures::SinkExt as _;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{ResourceExt as _, runtime::reflector::ObjectRef};
use runtime::Shutdown;

use super::Queues;
use crate::{
    binding::{ApiVersion, Bindings},
    indexed::Indexed,
    leadership::Authority,
    links, pull_secret,
};

/// Between two rounds; half as much again at most. A link to a Secret that is gone harms nobody.
const PERIOD: Duration = Duration::from_secs(10 * 60);
/// Between two ServiceAccounts of a round.
const PACE: Duration = Duration::from_secs(1);

/// Makes rounds until shutdown.
pub(super) async fn watch(
    bindings: Bindings,
    accounts: Indexed<ServiceAccount>,
    mut queues: Queues,
    authority: Authority,
    shutdown: Shutdown,
) {
    let rounds = async {
        loop {
            tokio::time::sleep(PERIOD.mul_f64(1.0 + rand::random::<f64>() / 2.0)).await;
            // A standby looks at everything when it leads.
            if !authority.is_given() {
                continue;
            }
            for account in with_leftovers(&bindings, &accounts) {
                // The controller ends first when the process ends.
                if queues.accounts.send(account).await.is_err() {
                    return;
                }
                tokio::time::sleep(PACE).await;
            }
        }
    };
    tokio::select! {
        () = rounds => {}
        () = shutdown.started() => {}
    }
}

/// The ServiceAccounts that record more than the bindings that are known ask for.
fn with_leftovers(bindings: &Bindings, accounts: &Indexed<ServiceAccount>) -> Vec<ObjectRef<ServiceAccount>> {
    let mut asked_for: HashMap<ObjectRef<ServiceAccount>, BTreeSet<String>> = HashMap::new();
    let known = ApiVersion::ALL
        .into_iter()
        .flat_map(|api| bindings.of(api).state());
    for binding in known.filter(|binding| binding.metadata.deletion_timestamp.is_none()) {
        let namespace = binding.namespace().unwrap_or_default();
        for account in binding.spec.accounts() {
            let account = links::account_ref(&namespace, account);
            asked_for
                .entry(account)
                .or_default()
                .insert(pull_secret::name_of(&binding));
        }
    }
    let recorded = accounts.store().state();
    let recorded = recorded.iter().map(|account| {
        let record = links::record(account);
        (ObjectRef::from_obj(account.as_ref()), record)
    });
    recorded
        .filter(|(account, record)| {
            let asked_for = asked_for.get(account);
            record
                .iter()
                .any(|name| !asked_for.is_some_and(|names| names.contains(name)))
        })
        .map(|(account, _record)| account)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::{StreamExt as _, channel::mpsc};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::runtime::watcher::Event;
    use runtime::SystemClock;

    use super::*;
    use crate::{
        binding::PerApi,
        indexed::{self, IndexedWriter},
        links::tests::link,
        samples::{account, binding_of, now},
    };

    /// A binding of each API, and ServiceAccounts that list these Secrets of ours.
    fn stores(
        listed: &[(&str, &[&str])],
    ) -> (Bindings, Indexed<ServiceAccount>, IndexedWriter<ServiceAccount>) {
        let (bindings, mut writers) = Bindings::empty();
        for api in ApiVersion::ALL {
            let event = Event::Apply(binding_of(api, "web"));
            writers.of_mut(api).apply_watcher_event(&event);
        }
        let mut leaving = binding_of(ApiVersion::V1Beta2, "leaving");
        leaving.metadata.deletion_timestamp = Some(Time(now()));
        writers.v1beta2.apply_watcher_event(&Event::Apply(leaving));
        let (accounts, mut writer) = indexed::store(());
        for (name, secrets) in listed {
            let mut account = account(name);
            for secret in *secrets {
                link(&mut account, secret);
            }
            writer.apply_watcher_event(&Event::Apply(account));
        }
        (bindings, accounts, writer)
    }

    #[test]
    fn b17_account_with_a_link_that_no_binding_asks_for_is_found_and_no_other() {
        let (bindings, accounts, _writer) = stores(&[
            ("web", &["acr-pull-web", "web-msi-acrpull-secret"]),
            ("another", &["acr-pull-web"]),
            ("left", &["acr-pull-leaving"]),
            ("none", &[]),
        ]);
        let mut found: Vec<_> = with_leftovers(&bindings, &accounts)
            .into_iter()
            .map(|account| account.name)
            .collect();
        found.sort();
        assert_eq!(found, ["another", "left"]);
        let (bindings, accounts, _writer) = stores(&[("web", &["acr-pull-web", "acr-pull-gone"])]);
        assert_eq!(with_leftovers(&bindings, &accounts).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn b17_leftover_links_are_looked_at_one_after_the_other_by_the_leader_alone() {
        let (bindings, accounts, _writer) =
            stores(&[("one", &["acr-pull-gone"]), ("two", &["acr-pull-gone"])]);
        let (accounts_tx, mut woken) = mpsc::channel(0);
        let queues = Queues {
            bindings: PerApi::new(|_api| mpsc::channel(0).0),
            accounts: accounts_tx,
        };
        let authority = Authority::to_be_given(Arc::new(SystemClock));
        let shutdown = Shutdown::manual();
        let rounds = watch(bindings, accounts, queues, authority.clone(), shutdown.clone());
        let rounds = runtime::tasks::spawn_detached(rounds);
        tokio::time::sleep(3 * PERIOD).await;
        assert!(woken.try_recv().is_err(), "a standby wakes nobody");

        authority.give_until(Duration::MAX);
        let began = tokio::time::Instant::now();
        let first = woken.next().await.unwrap();
        let waited = began.elapsed();
        assert!(waited <= PERIOD * 2, "{waited:?}");
        let found = tokio::time::Instant::now();
        let second = woken.next().await.unwrap();
        assert_ne!(first, second);
        assert!(found.elapsed() >= PACE, "{:?}", found.elapsed());
        shutdown.start();
        rounds.await.unwrap();
    }
}
