use kube::runtime::{reflector, watcher::Event};

use super::*;
use crate::{
    links::tests::link,
    samples::{account, annotated_account, binding, workload_identity_spec},
};

/// Two bindings on ServiceAccount `web`, whose identity is that of `puller`; `old` still lists one of the Secrets.
fn router() -> Router {
    let (bindings, mut writer) = reflector::store();
    for name in ["one", "two"] {
        writer.apply_watcher_event(&Event::Apply(binding(name, workload_identity_spec())));
    }
    let (accounts, mut writer) = reflector::store();
    let mut old = account("old");
    link(&mut old, "acr-pull-one");
    writer.apply_watcher_event(&Event::Apply(old));
    writer.apply_watcher_event(&Event::Apply(account("bystander")));
    Router::new(Arc::default(), bindings, accounts)
}

/// The woken, sorted, as `kind/name`.
fn woken(wakes: Vec<Wake>) -> Vec<String> {
    let mut names: Vec<_> = wakes
        .into_iter()
        .map(|wake| match wake {
            Wake::Binding(binding) => format!("binding/{}", binding.name),
            Wake::Account(account) => format!("account/{}", account.name),
        })
        .collect();
    names.sort();
    names
}

fn applied<K>(before: Option<K>, after: &K) -> Change<'_, K> {
    Change::Applied {
        before: before.map(Arc::new),
        after,
    }
}

#[test]
fn router_binding_wakes_itself_and_accounts_that_should_not_list_it() {
    let new = binding("one", workload_identity_spec());
    assert_eq!(
        woken(router().binding(&applied(None, &new))),
        ["account/old", "binding/one"]
    );
    assert_eq!(
        woken(router().binding(&Change::Gone(&new.metadata))),
        ["account/old"]
    );
    assert_eq!(
        woken(router().binding(&Change::Gone(&binding("two", workload_identity_spec()).metadata))),
        [""; 0]
    );
}

#[test]
fn router_binding_whose_status_changed_wakes_nobody() {
    let before = binding("one", workload_identity_spec());
    let mut after = before.clone();
    after.status = Some(crate::crd::AcrPullBindingStatus::default());
    after.metadata.resource_version = Some("101".to_owned());
    assert_eq!(router().binding(&applied(Some(before.clone()), &after)), []);
    after
        .annotations_mut()
        .insert(REFRESH_REQUESTED.to_owned(), "now".to_owned());
    assert_eq!(
        woken(router().binding(&applied(Some(before), &after))),
        ["account/old", "binding/one"]
    );
}

#[test]
fn router_account_that_appears_or_goes_wakes_its_bindings() {
    let web = account("web");
    assert_eq!(
        woken(router().account(&applied(None, &web))),
        ["account/web", "binding/one", "binding/two"]
    );
    assert_eq!(
        woken(router().account(&Change::Gone(&web.metadata))),
        ["binding/one", "binding/two"]
    );
    assert_eq!(router().account(&applied(None, &account("bystander"))), []);
}

#[test]
fn router_account_that_was_linked_wakes_nobody() {
    let mut linked = account("web");
    link(&mut linked, "acr-pull-one");
    assert_eq!(router().account(&applied(Some(account("web")), &linked)), []);
}

#[test]
fn router_account_that_lost_a_link_wakes_that_binding() {
    let mut linked = account("web");
    link(&mut linked, "acr-pull-one");
    assert_eq!(
        woken(router().account(&applied(Some(linked), &account("web")))),
        ["binding/one"]
    );
}

#[test]
fn router_account_with_another_identity_wakes_those_that_use_it() {
    let (before, after) = (account("puller"), annotated_account("puller"));
    assert_eq!(
        woken(router().account(&applied(Some(before), &after))),
        ["binding/one", "binding/two"]
    );
    assert_eq!(router().account(&applied(Some(after.clone()), &after)), []);
}

#[test]
fn router_secret_wakes_its_binding() {
    let mut secret = PartialObjectMeta::<Secret>::default();
    secret.metadata.namespace = Some("shop".to_owned());
    assert_eq!(router().secret(&Change::Gone(&secret.metadata)), []);
    secret.metadata.labels = Some([(pull_secret::BINDING_LABEL.to_owned(), "one".to_owned())].into());
    assert_eq!(
        woken(router().secret(&Change::Gone(&secret.metadata))),
        ["binding/one"]
    );
}

#[test]
fn router_resync_wakes_bindings_and_accounts_with_a_record() {
    assert_eq!(
        woken(router().binding(&Change::Resynced)),
        ["account/old", "binding/one", "binding/two"]
    );
}
