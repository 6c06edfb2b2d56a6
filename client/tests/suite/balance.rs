//! Who gets how many calls (guarantee R3), and what each call carries.

use std::time::Duration;

use crate::{
    authority::HOST,
    load::Load,
    replica::Replica,
    scene::{Scene, call, connected, until},
};

const PATIENCE: Duration = Duration::from_secs(15);
/// A little more than the time between two looks at the name.
const RESOLVED: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_address_that_is_new_is_found_without_a_disconnect_and_gets_its_share() {
    let scene = Scene::new();
    let (old, new) = (scene.replica().await, scene.replica().await);
    let client = scene.client(&[old.address]);
    connected(&client, 1, PATIENCE).await;
    scene.names.set(&[old.address, new.address]);
    connected(&client, 2, RESOLVED).await;
    let mut shares = [0; 2];
    for number in 0..400 {
        let replica = call(&client, format!("{number}")).await.unwrap();
        shares[usize::from(replica == new.address)] += 1;
    }
    // Half of the fair share is what is promised; less than that by chance: 1 in 10^23.
    assert!(shares[1] >= 100, "{shares:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r3_connection_that_ends_makes_new_addresses_known() {
    let scene = Scene::new();
    let age = Some(Duration::from_millis(1_200));
    let old = Replica::start(scene.authority.issue(HOST), &scene.log, age).await;
    let new = scene.replica().await;
    let client = scene.client(&[old.address]);
    connected(&client, 1, PATIENCE).await;
    scene.names.set(&[old.address, new.address]);
    let load = Load::start(&client, 50);
    until("the new replica gets calls", PATIENCE, || {
        scene.log.asked(new.address) > 20
    })
    .await;
    load.all_answered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn address_that_left_the_name_gets_no_more_calls_and_loses_none() {
    let scene = Scene::new();
    let (leaving, staying, mut ending) = (
        scene.replica().await,
        scene.replica().await,
        scene.replica().await,
    );
    let client = scene.client(&[leaving.address, staying.address, ending.address]);
    connected(&client, 3, PATIENCE).await;
    let load = Load::start(&client, 100);
    scene.names.set(&[staying.address]);
    // A connection that ends makes the client look at the name.
    ending.drain().await;
    connected(&client, 1, PATIENCE).await;
    load.all_answered().await;
    let before = scene.log.asked(leaving.address);
    for number in 0..20 {
        assert_eq!(
            call(&client, format!("late {number}")).await.unwrap(),
            staying.address
        );
    }
    assert_eq!(scene.log.asked(leaving.address), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_that_is_away_keeps_nobody_waiting() {
    let scene = Scene::new();
    let (well, mut away) = (scene.replica().await, scene.replica().await);
    away.kill();
    let client = scene.client(&[away.address, well.address]);
    connected(&client, 1, PATIENCE).await;
    for number in 0..50 {
        assert_eq!(call(&client, format!("{number}")).await.unwrap(), well.address);
    }
    let events = scene.log.events();
    assert!(
        events
            .iter()
            .all(|event| event.authorization == "Bearer the-callers-token")
    );
    let timeout = events[0].timeout.as_deref().unwrap();
    // Microseconds of what remains of 20 s.
    let remaining: u64 = timeout.strip_suffix('u').unwrap().parse().unwrap();
    assert!((15_000_000..=20_000_000).contains(&remaining), "{timeout}");
}
