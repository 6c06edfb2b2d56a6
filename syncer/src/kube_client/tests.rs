//! A server that throttles, in virtual time; and once over a socket, which shows that the library does not repeat.

use std::{
    convert::Infallible,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::body::Body as Answered;
use http::header::{DATE, HeaderName, RETRY_AFTER};
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use runtime::{SystemClock, clock::ManualClock};
use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};

use super::*;

const PLAIN: &str = "Too many requests, please try again later.\n";

/// How a server refuses: code, headers, body.
#[derive(Debug, Clone)]
struct Refusal(u16, Vec<(HeaderName, String)>, String);

impl Refusal {
    /// As API Priority and Fairness does it.
    fn plain(code: u16, retry_after: &str) -> Self {
        Self(
            code,
            vec![(RETRY_AFTER, retry_after.to_owned())],
            PLAIN.to_owned(),
        )
    }

    fn response(self) -> Response<Answered> {
        let Self(code, headers, body) = self;
        let mut response = Response::new(Answered::from(body));
        *response.status_mut() = StatusCode::from_u16(code).unwrap();
        for (name, value) in headers {
            response.headers_mut().insert(name, value.parse().unwrap());
        }
        response
    }
}

/// The bodies of the requests that were made, and when.
type Made = Arc<Mutex<Vec<(Value, Instant)>>>;

/// A server that refuses so often and then takes what it is sent.
fn server(refusals: usize, refusal: Refusal) -> (Client, Made) {
    let made = Made::default();
    let service = {
        let made = Arc::clone(&made);
        tower::service_fn(move |request: Request<Body>| {
            let (made, refusal) = (Arc::clone(&made), refusal.clone());
            async move {
                let body = request.into_body().collect_bytes().await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let mut made = made.lock().unwrap();
                made.push((body, Instant::now()));
                let response = if made.len() > refusals {
                    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"}});
                    Response::new(Answered::from(secret.to_string()))
                } else {
                    refusal.response()
                };
                Ok::<_, Infallible>(response)
            }
        })
    };
    let clock = ManualClock::at(UNIX_EPOCH + Duration::from_secs(1_795_255_230));
    (patient(Client::new(service, "default"), Arc::new(clock)), made)
}

fn patch() -> Patch<Value> {
    Patch::Merge(json!({"metadata": {"labels": {"a": "b"}}}))
}

async fn write(client: Client) -> Result<(), Box<Status>> {
    let secrets: Api<Secret> = Api::default_namespaced(client);
    match secrets.patch("one", &PatchParams::default(), &patch()).await {
        Ok(_secret) => Ok(()),
        Err(kube::Error::Api(status)) => Err(status),
        Err(error) => panic!("{error:?}"),
    }
}

fn pauses(made: &Made) -> Vec<Duration> {
    let made = made.lock().unwrap();
    made.windows(2).map(|two| two[1].1 - two[0].1).collect()
}

#[tokio::test(start_paused = true)]
async fn kube_client_makes_a_throttled_call_again_after_the_time_that_is_named() {
    for code in [429, 503] {
        let (client, made) = server(2, Refusal::plain(code, "1"));
        write(client).await.unwrap();
        let second = Duration::from_secs(1);
        for pause in pauses(&made) {
            assert!(
                (second..second * 3 / 2 + second / 100).contains(&pause),
                "{pause:?}"
            );
        }
        let made = made.lock().unwrap();
        assert_eq!(made.len(), 3, "{code}");
        let Patch::Merge(sent) = patch() else {
            unreachable!()
        };
        assert!(made.iter().all(|(body, _at)| *body == sent), "{made:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kube_client_gives_up_after_five_seconds_and_tells_the_time() {
    for named in ["0", "1", "2"] {
        let begun = Instant::now();
        let (client, made) = server(usize::MAX, Refusal::plain(429, named));
        let refused = write(client).await.unwrap_err();
        assert!(begun.elapsed() <= PATIENCE, "{:?}", begun.elapsed());
        let made = made.lock().unwrap().len();
        assert!((2..=6).contains(&made), "{made} calls for {named:?}");
        assert_eq!((refused.code, refused.message.as_str()), (429, PLAIN.trim()));
        let expected = named.parse().ok().filter(|seconds| *seconds > 0);
        assert_eq!(told(&refused), expected.map(Duration::from_secs));
    }
}

#[tokio::test(start_paused = true)]
async fn kube_client_does_not_wait_for_a_longer_time_and_tells_it_in_both_forms_and_capped() {
    const YEAR: &str = "31536000";
    let date = |at: &str| vec![(RETRY_AFTER, at.to_owned())];
    let dated = |at: &str| {
        let mut headers = date(at);
        headers.push((DATE, "Sat, 21 Nov 2026 10:00:00 GMT".to_owned()));
        headers
    };
    // The clock says 10:00:30.
    for (headers, seconds) in [
        (date("30"), 30),
        (date(YEAR), 60),
        (date("Sat, 21 Nov 2026 10:01:10 GMT"), 40),
        (dated("Sat, 21 Nov 2026 10:00:50 GMT"), 50),
        (dated("Sun, 21 Nov 2027 10:00:00 GMT"), 60),
    ] {
        let begun = Instant::now();
        let (client, made) = server(usize::MAX, Refusal(503, headers.clone(), PLAIN.to_owned()));
        let refused = write(client).await.unwrap_err();
        assert_eq!(told(&refused), Some(Duration::from_secs(seconds)), "{headers:?}");
        assert_eq!(refused.code, 503);
        assert_eq!((made.lock().unwrap().len(), begun.elapsed()), (1, Duration::ZERO));
    }
}

#[tokio::test(start_paused = true)]
async fn kube_client_hands_on_at_once_what_names_no_time_or_is_no_throttling() {
    for refusal in [
        Refusal(429, Vec::new(), PLAIN.to_owned()),
        Refusal(503, Vec::new(), String::new()),
        Refusal::plain(429, "soon"),
        Refusal::plain(500, "1"),
        Refusal::plain(403, "1"),
    ] {
        let (client, made) = server(usize::MAX, refusal.clone());
        let refused = write(client).await.unwrap_err();
        assert_eq!(refused.code, refusal.0);
        assert_eq!(told(&refused), None, "{refusal:?}");
        assert_eq!(made.lock().unwrap().len(), 1, "{refusal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn kube_client_keeps_what_the_server_says_and_little_of_a_page() {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 429, "reason": "TooManyRequests",
        "message": "storage is (re)initializing", "details": {"name": "one", "retryAfterSeconds": 7},
    });
    let told_of = async |body: String| {
        let headers = vec![(RETRY_AFTER, "30".to_owned())];
        let (client, _made) = server(usize::MAX, Refusal(429, headers, body));
        write(client).await.unwrap_err()
    };
    let refused = told_of(status.to_string()).await;
    assert_eq!(refused.message, "storage is (re)initializing");
    assert_eq!(refused.details.as_ref().unwrap().name, "one");
    assert_eq!(
        told(&refused),
        Some(Duration::from_secs(30)),
        "the header is newer"
    );
    for page in ["x".repeat(LONGEST_REFUSAL + 1), String::new()] {
        let refused = told_of(page).await;
        assert_eq!(refused.message, "Too Many Requests");
        assert_eq!(told(&refused), Some(Duration::from_secs(30)));
    }
    let other = told_of("{}".to_owned()).await;
    assert_eq!((other.code, told(&other)), (429, Some(Duration::from_secs(30))));
}

/// A server at a socket that refuses with this time, when it was asked, and where it is.
async fn refusing(
    retry_after: &'static str,
) -> (
    Config,
    Arc<Mutex<Vec<SystemTime>>>,
    tokio::task::JoinHandle<std::io::Result<()>>,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let made = Arc::<Mutex<Vec<SystemTime>>>::default();
    let answers = Arc::clone(&made);
    let router = axum::Router::new().fallback(move || {
        answers.lock().unwrap().push(SystemClock.now());
        async move { Refusal::plain(429, retry_after).response() }
    });
    let serving = runtime::tasks::spawn_detached(async move { axum::serve(listener, router).await });
    let config = Config::new(format!("http://{address}").parse().unwrap());
    (config, made, serving)
}

#[tokio::test]
async fn kube_client_that_is_impatient_tells_at_once_what_it_is_told() {
    let (config, made, serving) = refusing("3").await;
    let refused = write(impatient(config).unwrap()).await.unwrap_err();
    assert_eq!(refused.code, 429);
    assert_eq!(made.lock().unwrap().len(), 1);
    serving.abort();
}

#[tokio::test]
async fn kube_client_over_a_socket_asks_once_what_is_to_wait_for_long() {
    let (config, made, serving) = refusing("31536000").await;
    let client = connect(config, Arc::new(SystemClock)).unwrap();
    let answer = tokio::time::timeout(Duration::from_secs(30), write(client)).await;
    let refused = answer.expect("it waits for a year").unwrap_err();
    assert_eq!((refused.code, refused.message.as_str()), (429, PLAIN.trim()));
    assert_eq!(told(&refused), Some(LONGEST));
    assert_eq!(made.lock().unwrap().len(), 1);
    serving.abort();
}
