//! What a caller gets that asks too often, and what the others notice of it: nothing. In virtual time from the moment at
//! which Azure has been asked.

use http::HeaderValue;
use tokio::time::{Instant, advance, pause};
use tonic_types::StatusExt as _;

use super::*;
use crate::{
    config::{Limits, Rate},
    test_scene::{Answer, Shape, snapshot_with, token_of_west},
};

const SECONDS: usize = 10;

fn per_second(requests_per_second: u32, burst: u32) -> Rate {
    Rate {
        requests_per_second,
        burst,
    }
}

/// A scene in which each cluster may ask so often, west has the grant of east, and what the grant allows is in the cache.
async fn scene(limits: Limits) -> Scene {
    let scene = Scene::new().await;
    let mut snapshot = snapshot_with(Shape::WHOLE, limits);
    snapshot.policy.grants[0].clusters.push("west".to_owned());
    assert_eq!(ask(&scene, &token(SYNCER), "web").await.status, StatusCode::OK);
    scene.live.replace(snapshot);
    pause();
    scene
}

async fn ask(scene: &Scene, bearer: &str, namespace: &str) -> Answer {
    let mut message = granted_request();
    message["binding"]["namespace"] = json!(namespace);
    let mut request = http_request(Method::POST, "/v1/docker-config", None, message.to_string());
    let bearer = HeaderValue::try_from(format!("Bearer {bearer}")).unwrap();
    request.headers_mut().insert(header::AUTHORIZATION, bearer);
    scene.send(request).await
}

fn assert_throttled(answer: &Answer, detail: &str) {
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    let problem = answer.json();
    assert_eq!(
        (&problem["reason"], &problem["detail"]),
        (&json!("CALLER_THROTTLED"), &json!(detail))
    );
    let wait: u64 = answer.header("retry-after").parse().unwrap();
    assert!((1..=5).contains(&wait), "{wait}");
}

#[tokio::test]
async fn u6_cluster_at_ten_times_its_rate_is_held_to_it_and_another_notices_nothing() {
    let rate = per_second(20, 40);
    let scene = scene(Limits {
        per_cluster: rate,
        per_namespace: rate,
    })
    .await;
    let (noisy, quiet) = (token(SYNCER), token_of_west());
    let azure_calls = scene.azure.calls();
    let mut served = 0;
    for _second in 0..SECONDS {
        for _tenth in 0..10 {
            for _request in 0..20 {
                let answer = ask(&scene, &noisy, "web").await;
                if answer.status == StatusCode::OK {
                    served += 1;
                } else {
                    assert_throttled(&answer, "cluster east asks more often than it may");
                }
            }
            // At its own rate, the quiet one is always served, and at once: no time passes.
            let asked = Instant::now();
            for _request in 0..2 {
                assert_eq!(ask(&scene, &quiet, "web").await.status, StatusCode::OK);
            }
            assert!(asked.elapsed().is_zero());
            advance(Duration::from_millis(100)).await;
        }
    }
    assert!(
        (40 + 20 * (SECONDS - 1)..=40 + 20 * SECONDS).contains(&served),
        "{served}"
    );
    assert_eq!(scene.azure.calls(), azure_calls);
    let refused = format!(
        "acrpull_broker_throttled_requests_total{{cluster=\"east\",limit=\"cluster\"}} {}\n",
        200 * SECONDS - served
    );
    assert!(scene.metrics().contains(&refused), "{refused}");
}

#[tokio::test]
async fn u6_namespace_at_ten_times_its_rate_is_held_to_it_and_its_cluster_goes_on() {
    let scene = scene(Limits {
        per_cluster: per_second(40, 40),
        per_namespace: per_second(4, 4),
    })
    .await;
    let syncer = token(SYNCER);
    let mut denied = 0;
    for _second in 0..SECONDS {
        for _request in 0..40 {
            let answer = ask(&scene, &syncer, "noisy").await;
            if answer.status == StatusCode::FORBIDDEN {
                denied += 1;
            } else {
                assert_throttled(
                    &answer,
                    "namespace noisy of cluster east asks more often than it may",
                );
            }
        }
        for _request in 0..4 {
            assert_eq!(ask(&scene, &syncer, "web").await.status, StatusCode::OK);
        }
        advance(Duration::from_secs(1)).await;
    }
    assert_eq!(
        denied,
        4 * SECONDS,
        "a request that is denied counts like any other"
    );
}

#[tokio::test]
async fn a5_every_call_that_needs_a_token_counts_and_is_refused_unread() {
    let rate = per_second(1, 1);
    let scene = scene(Limits {
        per_cluster: rate,
        per_namespace: rate,
    })
    .await;
    assert_eq!(ask(&scene, &token(SYNCER), "web").await.status, StatusCode::OK);
    for rule in &TABLE {
        let Admits::Only(roles) = rule.admits else {
            continue;
        };
        for (caller, _) in callers(roles).iter().filter(|(_, is_admitted)| *is_admitted) {
            if let Some((method, path)) = &rule.http {
                let (body, was_read) = watched_body();
                let answer = scene
                    .send(http_request(method.clone(), path, Some(*caller), body))
                    .await;
                assert_throttled(&answer, "cluster east asks more often than it may");
                assert!(!was_read.load(Ordering::SeqCst), "{path}");
            }
            if let Some(path) = rule.grpc {
                let (body, was_read) = watched_body();
                let answer = scene.send(grpc_request(path, Some(&token(caller)), body)).await;
                let refusal = status(&answer);
                assert_eq!(refusal.code(), Code::ResourceExhausted, "{path}");
                assert_eq!(reason(&refusal), "CALLER_THROTTLED", "{path}");
                let wait = refusal.get_details_retry_info().unwrap().retry_delay.unwrap();
                assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(5));
                let pushback = refusal.metadata().get("grpc-retry-pushback-ms").unwrap();
                assert_eq!(pushback.to_str().unwrap(), wait.as_millis().to_string());
                assert!(!was_read.load(Ordering::SeqCst), "{path}");
            }
        }
    }
    // Who is nobody here uses up nothing: a second later the syncer has its turn.
    advance(Duration::from_secs(1)).await;
    let nobody = scene.get(NOBODY, "/v1/clusters").await;
    assert_eq!(nobody.status, StatusCode::FORBIDDEN);
    assert_eq!(ask(&scene, &token(SYNCER), "web").await.status, StatusCode::OK);
}
