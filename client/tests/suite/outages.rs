//! Replicas that restart, die or hang (guarantees R1 and R2).

use std::time::Duration;

use proto::Reason;

use crate::{
    authority::HOST,
    load::Load,
    replica::{Replica, What},
    scene::{Scene, call, connected, until},
};

const PATIENCE: Duration = Duration::from_secs(15);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_rolling_restarts_and_kills_of_two_replicas_fail_no_call() {
    let scene = Scene::new();
    let mut replicas = [scene.replica().await, scene.replica().await];
    let client = scene.client(&[replicas[0].address, replicas[1].address]);
    connected(&client, 2, PATIENCE).await;
    let load = Load::start(&client, 200);
    for round in 0..8 {
        let before = [0, 1].map(|number: usize| scene.log.asked(replicas[number].address));
        // Both take part before one of them goes.
        until("both replicas get calls", PATIENCE, || {
            [0, 1]
                .iter()
                .all(|&number: &usize| scene.log.asked(replicas[number].address) > before[number] + 20)
        })
        .await;
        let replica = &mut replicas[round % 2];
        if round < 4 {
            replica.drain().await;
        } else {
            replica.kill();
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        replica.restart().await;
        connected(&client, 2, PATIENCE).await;
    }
    let answered = load.all_answered().await;
    assert!(answered.len() > 400, "only {} calls were made", answered.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_only_replica_that_closes_old_connections_fails_no_call() {
    let scene = Scene::new();
    let age = Some(Duration::from_millis(300));
    let replica = Replica::start(scene.authority.issue(HOST), &scene.log, age).await;
    let client = scene.client(&[replica.address]);
    connected(&client, 1, PATIENCE).await;
    let load = Load::start(&client, 200);
    tokio::time::sleep(Duration::from_millis(900)).await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    load.all_answered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r1_calls_wait_for_the_only_replica_to_come_back() {
    let scene = Scene::new();
    let mut replica = scene.replica().await;
    let client = scene.client(&[replica.address]);
    connected(&client, 1, PATIENCE).await;
    replica.kill();
    connected(&client, 0, PATIENCE).await;
    let waiting = call(&client, "early");
    tokio::pin!(waiting);
    // Polled once, so that it has looked for a replica and found none.
    assert!(futures::poll!(&mut waiting).is_pending());
    replica.restart().await;
    assert_eq!(waiting.await.unwrap(), replica.address);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn r2_replica_that_hangs_is_covered_by_the_other_and_soon_avoided() {
    let scene = Scene::new();
    let (well, hanging) = (scene.replica().await, scene.replica().await);
    let client = scene.client(&[well.address, hanging.address]);
    connected(&client, 2, PATIENCE).await;
    hanging.hang(true);
    // One after the other, so that both replicas look idle each time.
    for number in 0..200 {
        assert_eq!(call(&client, format!("{number}")).await.unwrap(), well.address);
    }
    let events = scene.log.events();
    let silent: Vec<_> = events
        .iter()
        .filter(|event| event.replica == hanging.address && event.what == What::Asked)
        .collect();
    assert_eq!(silent.len(), 1, "it is asked again although it never answered");
    let at = |replica, what| {
        events
            .iter()
            .find(|event| event.replica == replica && event.call == silent[0].call && event.what == what)
            .unwrap_or_else(|| panic!("{what:?} is missing"))
            .at
    };
    let (first, second) = (at(hanging.address, What::Asked), at(well.address, What::Asked));
    assert!(
        second - first >= Duration::from_millis(1_990),
        "{:?}",
        second - first
    );
    assert!(at(well.address, What::Answered) <= at(hanging.address, What::Cancelled));

    // Under load it gets a call now and then, and once it answers it is a replica like any other.
    hanging.hang(false);
    let load = Load::start(&client, 200);
    until("the replica that hung gets its share again", PATIENCE, || {
        scene.log.asked(hanging.address) > 50
    })
    .await;
    load.all_answered().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_that_is_away_is_told_as_such() {
    let scene = Scene::new();
    let mut replica = scene.replica().await;
    let client = scene.client(&[replica.address]);
    connected(&client, 1, PATIENCE).await;
    replica.kill();
    let error = call(&client, "lost").await.unwrap_err();
    assert_eq!(error.reason, Reason::BrokerUnreachable);
    assert_eq!(error.message, Reason::BrokerUnreachable.title());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_that_is_dropped_closes_its_connections() {
    let scene = Scene::new();
    let mut replica = scene.replica().await;
    let client = scene.client(&[replica.address]);
    let clone = client.clone();
    connected(&client, 1, PATIENCE).await;
    drop(client);
    assert_eq!(call(&clone, "clone").await.unwrap(), replica.address);
    let metrics = clone.metrics().clone();
    drop(clone);
    until("the connection is off the list", PATIENCE, || {
        metrics.usable_replicas() == 0
    })
    .await;
    // A server in shutdown waits for all its connections.
    tokio::time::timeout(PATIENCE, replica.drain()).await.unwrap();
}
