//! What a connection may hold open over which nobody has been admitted.

use super::{
    super::super::conduct::{STRANGERS_EXCHANGES, STRANGERS_REQUESTS},
    *,
};

/// A peer that takes no bytes of bodies.
async fn http2_without_window(scene: &mut Scene) -> (http2::SendRequest<Empty<Bytes>>, JoinHandle<()>) {
    let (stream, served) = scene.connect().await;
    let (requests, connection) = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(0)
        .handshake(TokioIo::new(stream))
        .await
        .unwrap();
    spawn_detached(connection);
    (requests, served)
}

/// Asks for `path` so many times and keeps the answers open; whether each has a body.
async fn held(
    requests: &mut http2::SendRequest<Empty<Bytes>>,
    path: &str,
    count: usize,
) -> Vec<(Response<Incoming>, bool)> {
    let mut answers = Vec::new();
    for _ in 0..count {
        let answer = requests.send_request(get_request(path)).await.unwrap();
        let has_body = !hyper::body::Body::is_end_stream(answer.body());
        answers.push((answer, has_body));
    }
    answers
}

fn with_body(answers: &[(Response<Incoming>, bool)]) -> usize {
    answers.iter().filter(|(_answer, has_body)| *has_body).count()
}

#[tokio::test(start_paused = true)]
async fn u8_stranger_that_takes_no_answer_holds_few_of_them() {
    let mut scene = Scene::new();
    let (mut requests, _served) = http2_without_window(&mut scene).await;
    let refused = held(&mut requests, "/refused", 30).await;
    assert_eq!(with_body(&refused), STRANGERS_EXCHANGES);
    assert!(
        refused
            .iter()
            .all(|(answer, _)| answer.status() == StatusCode::UNAUTHORIZED)
    );
    let public = held(&mut requests, "/openapi.json", 1).await;
    assert_eq!(public[0].0.status(), StatusCode::TOO_MANY_REQUESTS);
    assert!(scene.strangers_refused(30 - STRANGERS_EXCHANGES + 1));
    // What is let go of is free for others.
    drop((refused, public));
    sleep(Duration::from_secs(1)).await;
    let again = held(&mut requests, "/openapi.json", 1).await;
    assert_eq!(with_body(&again), 1);
}

#[tokio::test(start_paused = true)]
async fn u8_connection_watches_health_once() {
    let mut scene = Scene::new();
    let (mut requests, _served) = scene.http2().await;
    let watches = held(&mut requests, WATCH, 3).await;
    assert_eq!(with_body(&watches), 1);
    assert!(watches[1].0.headers()["grpc-status"] == "8");
    drop(watches);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(with_body(&held(&mut requests, WATCH, 1).await), 1);
}

#[tokio::test(start_paused = true)]
async fn u8_stranger_that_asks_on_and_on_is_asked_to_go() {
    let mut scene = Scene::new();
    let (mut requests, served) = scene.http2().await;
    let answers = held(&mut requests, "/refused", STRANGERS_REQUESTS).await;
    assert_eq!(answers.len(), STRANGERS_REQUESTS, "each is answered");
    drop(answers);
    assert_about(until_served(served).await, Duration::ZERO);
    assert!(requests.ready().await.is_err() && scene.closed("stranger"));
}

#[tokio::test(start_paused = true)]
async fn u8_connection_of_an_admitted_caller_has_no_such_limits() {
    let mut scene = Scene::new();
    let (mut requests, _served) = scene.http2().await;
    // All at once, before the first is admitted.
    let calls: Vec<_> = (0..3 * STRANGERS_REQUESTS)
        .map(|_| spawn_detached(requests.send_request(get_request("/admitted"))))
        .collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap().status(), StatusCode::OK);
    }
    let answers = held(&mut requests, "/quick", 3 * STRANGERS_REQUESTS).await;
    assert_eq!(with_body(&answers), 3 * STRANGERS_REQUESTS);
    assert!(!scene.closed("stranger") && scene.strangers_refused(0));
}
