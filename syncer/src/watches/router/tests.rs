use futures::FutureExt as _;
use kube::{ResourceExt as _, runtime::watcher::Event};

use super::*;
use crate::{
    binding::AccountRef,
    indexed,
    links::tests::link,
    samples::{account, annotated_account, binding, key, older_binding, older_spec, workload_identity_spec},
};

/// Two bindings on ServiceAccount `web`, whose identity is that of `puller`; `old` still lists one of the Secrets.
fn router() -> Router {
    router_with(&[])
}

/// The same beside these bindings of the older API.
fn router_with(older: &[Binding]) -> Router {
    let (bindings, mut writers) = Bindings::empty();
    for name in ["one", "two"] {
        let one = binding(name, workload_identity_spec());
        writers.v1beta2.apply_watcher_event(&Event::Apply(one));
    }
    for binding in older {
        writers
            .v1beta1
            .apply_watcher_event(&Event::Apply(binding.clone()));
    }
    let (accounts, mut writer) = indexed::store(());
    let mut old = account("old");
    link(&mut old, "acr-pull-one");
    writer.apply_watcher_event(&Event::Apply(old));
    writer.apply_watcher_event(&Event::Apply(account("bystander")));
    Router::new(
        Arc::new(Memory::new(bindings.clone())),
        Arc::default(),
        bindings,
        accounts,
    )
}

/// The woken, sorted, as `kind/name`.
fn woken(wakes: Vec<Wake>) -> Vec<String> {
    let mut names: Vec<_> = wakes
        .into_iter()
        .map(|wake| match wake {
            Wake::Binding(binding) if binding.dyntype == ApiVersion::V1Beta1 => {
                format!("older/{}", binding.name)
            }
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
        woken(router().binding(ApiVersion::V1Beta2, &applied(None, &new))),
        ["account/old", "binding/one"]
    );
    assert_eq!(
        woken(router().binding(ApiVersion::V1Beta2, &Change::Gone(&new.metadata))),
        ["account/old"]
    );
    assert_eq!(
        woken(router().binding(
            ApiVersion::V1Beta2,
            &Change::Gone(&binding("two", workload_identity_spec()).metadata)
        )),
        [""; 0]
    );
}

#[test]
fn router_binding_whose_status_changed_wakes_nobody() {
    let before = binding("one", workload_identity_spec());
    let mut after = before.clone();
    after.status = Some(crate::crd::AcrPullBindingStatus::default());
    after.metadata.resource_version = Some("101".to_owned());
    assert_eq!(
        router().binding(ApiVersion::V1Beta2, &applied(Some(before.clone()), &after)),
        []
    );
    after
        .annotations_mut()
        .insert(REFRESH_REQUESTED.to_owned(), "now".to_owned());
    assert_eq!(
        woken(router().binding(ApiVersion::V1Beta2, &applied(Some(before), &after))),
        ["account/old", "binding/one"]
    );
}

#[test]
fn router_binding_that_the_peer_takes_back_wakes_itself() {
    let before = binding("one", workload_identity_spec());
    let mut after = before.clone();
    after.metadata.finalizers = Some(vec![finalizer::PEERS.to_owned()]);
    for (before, after) in [(&before, &after), (&after, &before)] {
        assert_eq!(
            woken(router().binding(ApiVersion::V1Beta2, &applied(Some(before.clone()), after))),
            ["account/old", "binding/one"]
        );
    }
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
fn router_account_whose_link_comes_after_its_binding_went_is_woken() {
    let known = |account: ServiceAccount| {
        let mut known = account;
        link(&mut known, "acr-pull-one");
        known
    };
    // Gone, and of another ServiceAccount.
    for (name, secret_name) in [("web", "acr-pull-gone"), ("bystander", "acr-pull-two")] {
        let mut after = known(account(name));
        link(&mut after, secret_name);
        assert_eq!(
            woken(router().account(&applied(Some(known(account(name))), &after))),
            [format!("account/{name}")]
        );
        assert_eq!(router().account(&applied(Some(after.clone()), &after)), []);
    }
    // On its way out.
    let mut leaving = older_binding("one", older_spec());
    let now = crate::samples::now();
    leaving.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now));
    let mut after = account("web");
    link(&mut after, &pull_secret::name_of(&leaving));
    assert_eq!(
        woken(router_with(&[leaving]).account(&applied(Some(account("web")), &after))),
        ["account/web"]
    );
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
fn b9_router_account_that_is_linked_has_the_identity_where_the_ref_is_ignored() {
    let mut ignoring = binding("three", workload_identity_spec());
    ignoring.account_ref = AccountRef::Ignore;
    let (bindings, mut writers) = Bindings::empty();
    writers.v1beta2.apply_watcher_event(&Event::Apply(ignoring));
    let memory = Arc::new(Memory::new(bindings.clone()));
    let router = Router::new(memory, Arc::default(), bindings, indexed::store(()).0);
    for (name, concerned) in [("web", vec!["binding/three"]), ("puller", vec![])] {
        let (before, after) = (account(name), annotated_account(name));
        assert_eq!(woken(router.account(&applied(Some(before), &after))), concerned);
    }
}

#[test]
fn router_secret_wakes_its_binding() {
    let mut secret = PartialObjectMeta::<Secret>::default();
    secret.metadata.namespace = Some("shop".to_owned());
    assert_eq!(router().secret(&Change::Gone(&secret.metadata)), []);
    secret.metadata.labels = Some([(pull_secret::BINDING_LABEL.to_owned(), "one".to_owned())].into());
    for api in ApiVersion::ALL {
        secret.metadata.name = Some(pull_secret::name_for(api, "one"));
        assert_eq!(
            router().secret(&Change::Gone(&secret.metadata)),
            [Wake::Binding(key(api, "one"))]
        );
    }
}

#[test]
fn router_resync_wakes_bindings_and_accounts_with_a_record() {
    assert_eq!(
        woken(router().binding(ApiVersion::V1Beta2, &Change::Resynced)),
        ["account/old", "binding/one", "binding/two"]
    );
    let older = [older_binding("one", older_spec())];
    assert_eq!(
        woken(router_with(&older).binding(ApiVersion::V1Beta1, &Change::Resynced)),
        ["account/old", "older/one"],
        "the other API's have nothing to do with it"
    );
    assert_eq!(
        woken(router_with(&older).account(&Change::Resynced)),
        ["account/old", "binding/one", "binding/two", "older/one"]
    );
}

#[test]
fn router_account_wakes_bindings_of_both_apis() {
    let older = older_binding("one", older_spec());
    assert_eq!(
        woken(router_with(&[older]).account(&applied(None, &account("web")))),
        ["account/web", "binding/one", "binding/two", "older/one"]
    );
}

#[test]
fn b11_router_older_binding_that_moves_wakes_the_account_that_still_lists_it() {
    let router = router();
    let mut account = account("before");
    link(&mut account, "one-msi-acrpull-secret");
    let (accounts, mut writer) = indexed::store(());
    writer.apply_watcher_event(&Event::Apply(account));
    let router = Router { accounts, ..router };
    let moved = older_binding("one", older_spec());
    assert_eq!(
        woken(router.binding(ApiVersion::V1Beta1, &applied(None, &moved))),
        ["account/before", "older/one"]
    );
    assert_eq!(
        woken(router.binding(ApiVersion::V1Beta2, &Change::Gone(&moved.metadata))),
        [""; 0],
        "the Secret of one API is not that of the other"
    );
}

#[test]
fn router_binding_of_several_accounts_is_woken_by_each_and_unlinked_where_it_left() {
    let mut several = binding("one", workload_identity_spec());
    several.spec.service_account_names = vec!["batch".to_owned()];
    let (bindings, mut writers) = Bindings::empty();
    writers
        .v1beta2
        .apply_watcher_event(&Event::Apply(several.clone()));
    let (accounts, mut writer) = indexed::store(());
    for name in ["web", "batch", "old"] {
        let mut account = account(name);
        link(&mut account, "acr-pull-one");
        writer.apply_watcher_event(&Event::Apply(account));
    }
    let router = Router::new(
        Arc::new(Memory::new(bindings.clone())),
        Arc::default(),
        bindings,
        accounts,
    );
    for name in ["web", "batch"] {
        let mut before = account(name);
        link(&mut before, "acr-pull-one");
        let lost = account(name);
        assert_eq!(
            woken(router.account(&applied(Some(before), &lost))),
            ["binding/one"]
        );
        assert_eq!(
            woken(router.account(&Change::Gone(&lost.metadata))),
            ["binding/one"]
        );
    }
    let mut after = several.clone();
    assert_eq!(
        woken(router.binding(ApiVersion::V1Beta2, &applied(None, &after))),
        ["account/old", "binding/one"]
    );
    after.spec.service_account_names = Vec::new();
    after.metadata.generation = Some(4);
    assert_eq!(
        woken(router.binding(ApiVersion::V1Beta2, &applied(Some(several), &after))),
        ["account/batch", "account/old", "binding/one"]
    );
}

#[test]
fn router_account_wakes_nobody_of_another_namespace() {
    let mut elsewhere = account("web");
    elsewhere.metadata.namespace = Some("elsewhere".to_owned());
    assert_eq!(router().account(&applied(None, &elsewhere)), []);
}

#[test]
fn router_tells_whoever_follows_a_binding_of_what_its_answer_may_depend_on() {
    let router = router();
    let before = binding("one", workload_identity_spec());
    let follower = router.news.follow(before.key());
    let is_told = || follower.changed().now_or_never().is_some();
    let mut after = before.clone();
    after.metadata.resource_version = Some("101".to_owned());
    router.binding(ApiVersion::V1Beta2, &applied(Some(before.clone()), &after));
    assert!(!is_told(), "nothing that anybody reads has changed");
    after.metadata.generation = Some(4);
    router.binding(ApiVersion::V1Beta2, &applied(Some(before.clone()), &after));
    assert!(is_told());
    router.binding(ApiVersion::V1Beta2, &Change::Gone(&before.metadata));
    assert!(is_told());
    router.account(&applied(Some(account("puller")), &annotated_account("puller")));
    assert!(is_told(), "its identity is another one");

    // One that went while the watch was down has no change of its own.
    let gone = router.news.follow(key(ApiVersion::V1Beta2, "gone"));
    router.binding(ApiVersion::V1Beta2, &Change::Resynced);
    assert!(gone.changed().now_or_never().is_some());
}
