//! When the time of a call begins.

use std::{future::pending, time::Duration};

use http::{HeaderMap, HeaderValue};
use proto::MAX_DEADLINE;
use tokio::time::Instant;

use proto::v1::ListClustersResponse;

use crate::service::*;
use crate::test_scene::{OPERATOR, Scene, token};

async fn never(_: Service, _: Admitted, (): ()) -> Result<ListClustersResponse, CredentialError> {
    pending().await
}

#[tokio::test(start_paused = true)]
async fn deadline_includes_the_time_in_which_the_body_came() {
    let scene = Scene::new().await;
    let mut headers = HeaderMap::new();
    let bearer = HeaderValue::try_from(format!("Bearer {}", token(OPERATOR))).unwrap();
    headers.insert(http::header::AUTHORIZATION, bearer);
    let admitted_at = Instant::now();
    let admitted = scene
        .service
        .admit(
            WireFormat::Http,
            Call::ListClusters,
            &[Role::Operator],
            &headers,
            Facts::default(),
        )
        .await
        .unwrap();

    tokio::time::sleep(Duration::from_secs(6)).await;
    let refused = scene
        .service
        .clone()
        .serve(admitted, Ok(()), never)
        .await
        .unwrap_err();

    assert_eq!(refused.reason, Reason::DeadlineExceeded);
    let took = admitted_at.elapsed();
    assert!(
        took >= MAX_DEADLINE && took < MAX_DEADLINE + Duration::from_secs(1),
        "{took:?}"
    );
}
