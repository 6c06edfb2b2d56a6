//! The keeper against an API server in this process.

use futures::future::join_all;
use kube::runtime::watcher::Event;
use serde_json::json;

use super::*;
use crate::{
    binding::ApiVersion,
    links::{RECORD_ANNOTATION, account_ref, entries, tests::link},
    samples::{self, binding, workload_identity_spec},
};

mod fights;
mod server;
mod world;

use self::{
    server::Fault,
    world::{World, account},
};

const ONE: &str = "acr-pull-one";

#[tokio::test]
async fn keeper_link_is_list_and_record_in_one_guarded_write() {
    let world = World::with_one();
    assert_eq!(world.settle(Some(ONE)).await.unwrap(), Linked::Settled);
    let (calls, patches) = world.server.calls();
    assert_eq!(calls, ["PATCH serviceaccounts"]);
    assert_eq!(
        patches,
        [json!({
            "metadata": {"resourceVersion": "1", "annotations": {RECORD_ANNOTATION: ONE}},
            "imagePullSecrets": [{"name": ONE}],
        })]
    );
    // The watch still shows the account as it was.
    assert_eq!(world.settle(Some(ONE)).await.unwrap(), Linked::Settled);
    assert_eq!(world.writes(), 0);
}

#[tokio::test]
async fn keeper_fifty_bindings_of_one_account_cost_one_write() {
    let mut world = World::with_one();
    let names: Vec<_> = (0..50).map(|number| format!("b{number}")).collect();
    for name in &names {
        world.bind(name);
    }
    let secrets: Vec<_> = names.iter().map(|name| format!("acr-pull-{name}")).collect();
    let settled = join_all(secrets.iter().map(|secret| world.settle(Some(secret)))).await;
    assert!(
        settled
            .iter()
            .all(|settled| matches!(settled, Ok(Linked::Settled)))
    );
    assert_eq!(world.writes(), 1);
    assert_eq!(world.listed().len(), 51);
    assert!(world.context.links.turns.lock().unwrap().is_empty());
}

#[tokio::test]
async fn keeper_write_that_was_overtaken_is_repeated_on_what_is_there_then() {
    let world = World::with_one();
    world.server.fault(Fault::Overtaken("somebody-elses"));
    assert_eq!(world.settle(Some(ONE)).await.unwrap(), Linked::Settled);
    assert_eq!(
        world.server.calls().0,
        [
            "PATCH serviceaccounts",
            "LIST serviceaccounts",
            "PATCH serviceaccounts"
        ]
    );
    assert_eq!(world.listed(), ["somebody-elses", ONE]);
}

#[tokio::test]
async fn keeper_that_is_overtaken_every_time_gives_up_and_says_so() {
    let world = World::with_one();
    for _attempt in 0..100 {
        world.server.fault(Fault::Overtaken("more"));
    }
    assert!(world.settle(Some(ONE)).await.unwrap_err().is_conflict());
    let (calls, patches) = world.server.calls();
    let tried = calls.iter().filter(|call| call.starts_with("PATCH")).count();
    assert_eq!((tried, patches.len()), (MAX_CONFLICTS, 0));
    assert!(world.context.links.turns.lock().unwrap().is_empty());
}

#[tokio::test]
async fn keeper_that_is_refused_does_not_try_again() {
    let world = World::with_one();
    world.server.fault(Fault::Refused(403));
    assert_eq!(world.settle(Some(ONE)).await.unwrap_err().code(), 403);
    assert_eq!(world.server.calls().0, ["PATCH serviceaccounts"]);
}

#[tokio::test]
async fn keeper_account_that_is_deleted_meanwhile_is_no_error() {
    for fault in [Fault::Deleted, Fault::OvertakenAndDeleted] {
        let world = World::with_one();
        world.server.fault(fault);
        assert_eq!(world.settle(Some(ONE)).await.unwrap(), Linked::NoAccount);
        assert_eq!(world.writes(), 0);
    }
    assert_eq!(World::new().settle(None).await.unwrap(), Linked::NoAccount);
}

#[tokio::test]
async fn keeper_unlinks_only_what_no_binding_of_either_api_stands_behind() {
    let mut world = World::with_one();
    let mut recorded = account("1");
    for name in [ONE, "acr-pull-gone", "acr-pull-hidden", "old-msi-acrpull-secret"] {
        link(&mut recorded, name);
    }
    world.put(recorded);
    // Of another controller: this one's watch does not show them.
    let hidden = samples::manifest("hidden", workload_identity_spec());
    world
        .server
        .list_binding(ApiVersion::V1Beta2, serde_json::to_value(hidden).unwrap());
    let old = crate::crd::v1beta1::AcrPullBinding::new("old", samples::older_spec());
    world
        .server
        .list_binding(ApiVersion::V1Beta1, serde_json::to_value(old).unwrap());
    world.settle(None).await.unwrap();
    assert_eq!(
        world.server.calls().0,
        [
            "LIST acrpullbindings of v1beta2",
            "LIST acrpullbindings of v1beta1",
            "PATCH serviceaccounts"
        ]
    );
    assert_eq!(world.listed(), [ONE, "acr-pull-hidden", "old-msi-acrpull-secret"]);
}

#[tokio::test]
async fn keeper_that_cannot_look_up_unlinks_nothing() {
    for code in [403, 500] {
        let mut world = World::new();
        let mut recorded = account("1");
        link(&mut recorded, "acr-pull-gone");
        world.put(recorded);
        world.server.fail_lists(code);
        assert_eq!(world.settle(None).await.unwrap_err().code(), code);
        assert_eq!(world.writes(), 0);
    }
}

#[tokio::test]
async fn keeper_wish_that_is_given_up_leaves_no_place_in_the_queue() {
    let world = World::with_one();
    let mut first = Box::pin(world.settle(Some(ONE)));
    assert!(futures::poll!(&mut first).is_pending());
    let mut second = Box::pin(world.settle(Some(ONE)));
    assert!(futures::poll!(&mut second).is_pending());
    let turns = || world.context.links.turns.lock().unwrap().len();
    assert_eq!(turns(), 1);
    drop(second);
    assert_eq!(turns(), 1, "the first is at it");
    drop(first);
    assert_eq!(turns(), 0);
}

#[tokio::test]
async fn keeper_remembers_its_write_only_until_the_watch_shows_it() {
    let mut world = World::with_one();
    world.settle(Some(ONE)).await.unwrap();
    let remembered = |world: &World| world.context.links.written.lock().unwrap().len();
    assert_eq!(remembered(&world), 1);
    world.see();
    world.context.links.account(&account_ref("shop", "web")).unwrap();
    assert_eq!(remembered(&world), 0);
}

#[tokio::test]
async fn keeper_write_that_the_watch_overtakes_does_not_hide_what_came_after_it() {
    let mut world = World::with_one();
    let web = account_ref("shop", "web");
    let mut settling = Box::pin(world.context.links.settle(&world.context, &web, Some(ONE)));
    while entries(&world.server.account("web").unwrap()).next().is_none() {
        assert!(futures::poll!(&mut settling).is_pending());
        tokio::task::yield_now().await;
    }
    // Written, and not answered yet. Somebody writes after that, and the watch shows it.
    let mut newer = world.server.account("web").unwrap();
    link(&mut newer, "somebody-elses");
    let newer = world.server.put(newer);
    world.accounts.apply_watcher_event(&Event::Apply(newer.clone()));
    assert_eq!(settling.await.unwrap(), Linked::Settled);
    let known = world.context.links.account(&web).unwrap();
    assert_eq!(known.resource_version(), newer.resource_version());
}

#[tokio::test]
async fn keeper_link_of_a_binding_with_several_accounts_is_kept_on_each() {
    let mut world = World::new();
    world.put(account("1"));
    world.put(samples::account("batch"));
    let mut several = binding("one", workload_identity_spec());
    several.spec.service_account_names = vec!["batch".to_owned()];
    world.bindings.apply_watcher_event(&Event::Apply(several.clone()));
    world.context.memory.allow_link(&several, true);
    let settle = async |world: &World, name: &str| {
        let account = account_ref("shop", name);
        world
            .context
            .links
            .settle(&world.context, &account, None)
            .await
            .unwrap();
        super::super::linked(&world.server.account(name).unwrap())
    };
    let one = BTreeSet::from([ONE.to_owned()]);
    assert_eq!(settle(&world, "web").await, one);
    assert_eq!(settle(&world, "batch").await, one);
    // Batch leaves the list.
    world
        .accounts
        .apply_watcher_event(&Event::Apply(world.server.account("batch").unwrap()));
    several.spec.service_account_names = Vec::new();
    world.server.list_binding(
        ApiVersion::V1Beta2,
        serde_json::to_value(samples::manifest("one", several.spec.clone())).unwrap(),
    );
    world.bindings.apply_watcher_event(&Event::Apply(several));
    assert_eq!(settle(&world, "batch").await, BTreeSet::new());
    assert_eq!(settle(&world, "web").await, one);
}
