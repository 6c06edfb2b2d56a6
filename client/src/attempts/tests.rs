//! Attempts in virtual time, over replicas that follow a script.

use std::{collections::HashMap, sync::Arc};

use futures::future::BoxFuture;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::Reason;
use tonic::{Code, body::Body};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::*;
use crate::{connection::SendError, error::reason_of};

/// What a replica does with a request.
#[derive(Debug, Clone, Copy)]
enum Script {
    Answers(u64),
    Says(u64, Reason),
    Breaks(u64),
    Bounces,
    Hangs,
}

/// What happened, and how many milliseconds after the call was made.
type Log = Arc<Mutex<Vec<(u128, String)>>>;

/// Replicas 0, 1, 2 ... in the order in which they are picked.
struct Scene {
    scripts: Vec<Script>,
    budget: Mutex<Budget>,
    metrics: ClientMetrics,
    start: Instant,
    log: Log,
}

struct FakePool(usize);

struct FakeLease(ReplicaId);

impl Pool for FakePool {
    type Lease = FakeLease;

    async fn pick(&self, asked: &Asked) -> FakeLease {
        let next = (0..self.0)
            .map(replica)
            .find(|candidate| !asked.any(|id| id == candidate));
        match next {
            Some(id) => FakeLease(id),
            None => std::future::pending().await,
        }
    }
}

impl Leased for FakeLease {
    fn id(&self) -> ReplicaId {
        self.0
    }

    fn answered(&mut self) {}
}

fn replica(number: usize) -> ReplicaId {
    let number = u8::try_from(number).unwrap();
    ReplicaId {
        address: SocketAddr::from(([10, 0, 0, number], 8443)),
        serial: u64::from(number),
    }
}

/// Writes "left" unless the attempt came to its end.
struct Watched {
    log: Log,
    start: Instant,
    number: usize,
    is_over: bool,
}

impl Watched {
    fn write(&self, what: &str) {
        let entry = (
            self.start.elapsed().as_millis(),
            format!("{what} {}", self.number),
        );
        self.log.lock().unwrap().push(entry);
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if !self.is_over {
            self.write("left");
        }
    }
}

impl Scene {
    fn of(scripts: &[Script]) -> Self {
        Self {
            scripts: scripts.to_vec(),
            budget: Mutex::default(),
            metrics: ClientMetrics::default(),
            start: Instant::now(),
            log: Log::default(),
        }
    }

    /// One call, which yields the number of the replica that answered it.
    async fn call(&self) -> Result<usize, Status> {
        let attempts = Attempts {
            pool: &FakePool(self.scripts.len()),
            budget: &self.budget,
            metrics: &self.metrics,
        };
        let deadline = Instant::now() + Duration::from_secs(20);
        attempts
            .run(deadline, |lease: &FakeLease| self.attempt(lease))
            .await
    }

    fn attempt(&self, lease: &FakeLease) -> BoxFuture<'static, Result<usize, Status>> {
        let number = usize::try_from(lease.0.serial).unwrap();
        let script = self.scripts[number];
        let mut watched = Watched {
            log: Arc::clone(&self.log),
            start: self.start,
            number,
            is_over: false,
        };
        Box::pin(async move {
            watched.write("asked");
            let pause = |milliseconds| tokio::time::sleep(Duration::from_millis(milliseconds));
            let result = match script {
                Script::Answers(after) => {
                    pause(after).await;
                    Ok(number)
                }
                Script::Says(after, reason) => {
                    pause(after).await;
                    Err(said(reason))
                }
                Script::Breaks(after) => {
                    pause(after).await;
                    Err(Status::from_error("broken pipe".into()))
                }
                Script::Bounces => Err(unsent().await),
                Script::Hangs => std::future::pending().await,
            };
            watched.is_over = true;
            watched.write("done");
            result
        })
    }

    fn log(&self) -> Vec<(u128, String)> {
        self.log.lock().unwrap().clone()
    }

    fn assert_log(&self, expected: &[(u128, &str)]) {
        let expected: Vec<_> = expected
            .iter()
            .map(|(at, what)| (*at, (*what).to_owned()))
            .collect();
        assert_eq!(self.log(), expected);
    }
}

fn said(reason: Reason) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(
        reason.as_wire(),
        proto::ERROR_DOMAIN,
        HashMap::<String, String>::new(),
    );
    Status::with_error_details(reason.grpc_code(), reason.title(), details)
}

/// What a request over a connection becomes that has just been closed.
async fn unsent() -> Status {
    let (ours, _theirs) = tokio::io::duplex(4096);
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(ours))
            .await
            .unwrap();
    drop(connection);
    let error = sender
        .try_send_request(http::Request::new(Body::empty()))
        .await
        .unwrap_err();
    assert!(error.message().is_some());
    Status::from_error(Box::new(SendError::Unsent(error.into_error())))
}

#[tokio::test(start_paused = true)]
async fn r2_silent_replica_gets_company_after_two_seconds_and_is_not_cancelled() {
    let scene = Scene::of(&[Script::Hangs, Script::Answers(500)]);
    assert_eq!(scene.call().await.unwrap(), 1);
    scene.assert_log(&[
        (0, "asked 0"),
        (2_000, "asked 1"),
        (2_500, "done 1"),
        (2_500, "left 0"),
    ]);
    assert_eq!((scene.metrics.hedges.get(), scene.metrics.retries.get()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn r2_first_replica_that_answers_late_still_wins() {
    let scene = Scene::of(&[Script::Answers(2_500), Script::Answers(5_000)]);
    assert_eq!(scene.call().await.unwrap(), 0);
    scene.assert_log(&[
        (0, "asked 0"),
        (2_000, "asked 1"),
        (2_500, "done 0"),
        (2_500, "left 1"),
    ]);
}

#[tokio::test(start_paused = true)]
async fn r1_lost_replica_costs_one_retry_on_another() {
    let scene = Scene::of(&[Script::Breaks(100), Script::Answers(100), Script::Answers(0)]);
    assert_eq!(scene.call().await.unwrap(), 1);
    scene.assert_log(&[(0, "asked 0"), (100, "done 0"), (100, "asked 1"), (200, "done 1")]);
    assert_eq!((scene.metrics.hedges.get(), scene.metrics.retries.get()), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn r1_replica_that_dies_with_many_calls_fails_none_of_them() {
    let scene = Scene::of(&[Script::Breaks(100), Script::Answers(100)]);
    let calls = futures::future::join_all((0..500).map(|_| scene.call())).await;
    assert!(calls.into_iter().all(|result| result.unwrap() == 1));
}

#[tokio::test(start_paused = true)]
async fn answer_of_the_broker_is_not_questioned() {
    for reason in [
        Reason::PolicyDenied,
        Reason::EntraUnreachable,
        Reason::UpstreamThrottled,
    ] {
        let scene = Scene::of(&[Script::Says(10, reason), Script::Answers(0)]);
        assert_eq!(reason_of(&scene.call().await.unwrap_err()), Some(reason));
        scene.assert_log(&[(0, "asked 0"), (10, "done 0")]);
    }
}

#[tokio::test(start_paused = true)]
async fn replica_that_cannot_answer_sends_the_call_elsewhere_within_the_budget() {
    let scene = Scene::of(&[
        Script::Says(0, Reason::ClusterKeysUnavailable),
        Script::Answers(0),
    ]);
    let mut answered = 0;
    for _ in 0..30 {
        match scene.call().await {
            Ok(number) => {
                assert_eq!(number, 1);
                answered += 1;
            }
            Err(status) => assert_eq!(reason_of(&status), Some(Reason::ClusterKeysUnavailable)),
        }
    }
    assert_eq!((answered, scene.metrics.withheld.get()), (10, 20));
}

#[tokio::test(start_paused = true)]
async fn answer_is_not_held_back_for_a_replica_that_is_not_there() {
    let scene = Scene::of(&[Script::Says(10, Reason::Overloaded)]);
    assert_eq!(
        reason_of(&scene.call().await.unwrap_err()),
        Some(Reason::Overloaded)
    );
    assert_eq!(scene.start.elapsed(), Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn hedges_beyond_the_budget_are_withheld() {
    let scene = Scene::of(&[Script::Answers(3_000), Script::Answers(10)]);
    let calls = futures::future::join_all((0..25).map(|_| scene.call())).await;
    let by_second = calls.into_iter().filter(|result| *result.as_ref().unwrap() == 1);
    assert_eq!(by_second.count(), 10);
    assert_eq!(
        (scene.metrics.hedges.get(), scene.metrics.withheld.get()),
        (10, 15)
    );
}

#[tokio::test(start_paused = true)]
async fn hedged_call_makes_no_third_attempt() {
    let scene = Scene::of(&[Script::Breaks(2_500), Script::Answers(1_000), Script::Answers(0)]);
    assert_eq!(scene.call().await.unwrap(), 1);
    scene.assert_log(&[
        (0, "asked 0"),
        (2_000, "asked 1"),
        (2_500, "done 0"),
        (3_000, "done 1"),
    ]);
    let scene = Scene::of(&[
        Script::Says(2_500, Reason::Overloaded),
        Script::Breaks(1_000),
        Script::Answers(0),
    ]);
    assert_eq!(
        reason_of(&scene.call().await.unwrap_err()),
        Some(Reason::Overloaded)
    );
    assert_eq!(scene.log().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn call_that_nobody_answers_ends_at_its_deadline() {
    for scripts in [&[Script::Hangs][..], &[Script::Hangs, Script::Hangs]] {
        let scene = Scene::of(scripts);
        assert_eq!(scene.call().await.unwrap_err().code(), Code::DeadlineExceeded);
        assert_eq!(scene.start.elapsed(), Duration::from_secs(20));
        let left = scene
            .log()
            .into_iter()
            .filter(|(_, what)| what.starts_with("left"));
        assert_eq!(left.count(), scripts.len());
    }
}

#[tokio::test(start_paused = true)]
async fn caller_who_leaves_takes_both_attempts_along() {
    let scene = Scene::of(&[Script::Hangs, Script::Hangs]);
    timeout(Duration::from_secs(3), scene.call()).await.unwrap_err();
    let mut log = scene.log();
    log[2..].sort();
    assert_eq!(
        log[2..],
        [(3_000, "left 0".to_owned()), (3_000, "left 1".to_owned())]
    );
}

#[tokio::test(start_paused = true)]
async fn call_without_any_replica_says_so_within_its_patience() {
    let scene = Scene::of(&[]);
    assert_eq!(scene.call().await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(scene.start.elapsed(), PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn request_that_never_left_is_no_attempt() {
    let scene = Scene::of(&[
        Script::Bounces,
        Script::Bounces,
        Script::Breaks(0),
        Script::Answers(0),
    ]);
    assert_eq!(scene.call().await.unwrap(), 3);
    assert_eq!(scene.metrics.retries.get(), 1);
}
