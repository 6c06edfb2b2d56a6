//! Links that somebody takes away.

use std::time::{Duration, SystemTime};

use futures::future::join_all;
use kube::runtime::watcher::Event;

use super::{
    ONE,
    world::{World, account},
};
use crate::{
    binding::ApiVersion,
    links::{Target, account_ref},
    samples::{binding, key, workload_identity_spec},
    schedule::elapsed,
};

/// Somebody takes the links away as soon as they are there; the keeper is asked every second.
async fn fight(world: &mut World, secrets: &[&str], seconds: u64) -> usize {
    for _second in 0..seconds {
        world.put(account("1"));
        join_all(secrets.iter().map(|secret| world.settle(Some(secret)))).await;
        world.see();
        world.clock.advance(Duration::from_secs(1));
    }
    world.writes()
}

fn target(world: &World) -> Target {
    let context = &world.context;
    let web = account_ref("shop", "web");
    context
        .links
        .target(&web, ONE, context.clock.monotonic(), context.now())
}

#[tokio::test]
async fn keeper_link_that_is_removed_again_and_again_is_restored_ever_less_often() {
    let mut world = World::with_one();
    assert_eq!(fight(&mut world, &[ONE], 50).await, 5);
    assert!(target(&world).fight.is_some());
    // A minute, two, four, ...
    let writes = fight(&mut world, &[ONE], 60 * 60).await;
    assert!((6..=7).contains(&writes), "{writes}");

    // Calm: the next repair holds.
    world.clock.advance(Duration::from_secs(15 * 60));
    world.settle(Some(ONE)).await.unwrap();
    world.see();
    assert_eq!(world.listed(), [ONE]);
    world.clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(target(&world).fight, None);
}

#[tokio::test]
async fn keeper_fight_over_a_link_goes_on_whatever_becomes_of_the_time_of_day() {
    let hour = Duration::from_secs(60 * 60);
    let noon = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    for set_to in [noon - hour, noon + hour] {
        let mut world = World::with_one();
        assert_eq!(fight(&mut world, &[ONE], 50).await, 5);
        world.clock.set(set_to);
        let told = target(&world).fight.unwrap();
        let waits = elapsed(world.context.now(), told.next_at);
        assert!(waits <= Duration::from_secs(60), "{waits:?}");
        let writes = fight(&mut world, &[ONE], 60).await;
        assert_eq!(writes, 1, "the repair after the first pause, and no other");
    }
}

#[tokio::test]
async fn keeper_fight_over_links_of_many_bindings_costs_no_more_than_over_one() {
    let mut world = World::with_one();
    world.bind("two");
    let both = [ONE, "acr-pull-two"];
    assert_eq!(fight(&mut world, &both, 50).await, 5);
    let writes = fight(&mut world, &both, 60 * 60).await;
    assert!((6..=7).contains(&writes), "{writes}");
}

#[tokio::test]
async fn keeper_new_link_is_made_at_once_on_an_account_that_is_fought_over() {
    let mut world = World::with_one();
    fight(&mut world, &[ONE], 50).await;
    world.bind("new");
    world.put(account("1"));
    world.settle(Some("acr-pull-new")).await.unwrap();
    assert_eq!(world.listed(), ["acr-pull-new"]);
}

#[tokio::test]
async fn keeper_account_that_is_recreated_again_and_again_is_linked_each_time() {
    let mut world = World::with_one();
    for life in 0..20 {
        world.put(account(&format!("life-{life}")));
        world.settle(Some(ONE)).await.unwrap();
        assert_eq!(world.listed(), [ONE]);
        world.see();
    }
}

#[tokio::test]
async fn keeper_binding_that_is_deleted_and_created_again_and_again_is_linked_each_time() {
    let mut world = World::with_one();
    for _life in 0..20 {
        world.bind("one");
        world.settle(Some(ONE)).await.unwrap();
        assert_eq!(world.listed(), [ONE]);
        world.see();
        let gone = binding("one", workload_identity_spec());
        world.bindings.apply_watcher_event(&Event::Delete(gone));
        world.context.memory.forget(&key(ApiVersion::V1Beta2, "one"));
        world.settle(None).await.unwrap();
        assert_eq!(world.listed(), [""; 0]);
        world.see();
    }
}
