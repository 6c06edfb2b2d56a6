//! A person asks for a refresh, by the annotation.

use serde_json::json;

use super::{ACCOUNT, SCOPE, Side, in_both_apis};
use crate::side::in_both_apis_alone;

async fn answers(side: &Side<'_>, request: &str) -> anyhow::Result<e2e::PullSecret> {
    side.wait_secret("one", "answers the request", |secret| {
        secret.annotation("acrpull.microsoft.com/refresh-requested") == Some(request)
    })
    .await
}

#[test]
fn request_for_a_refresh_is_answered_once_for_each_value() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        for request in ["first", "second"] {
            side.request_refresh("one", request).await?;
            answers(side, request).await?;
        }
        let answered = side.secret("one").await?;
        let (binding, _status) = side.get("one").await?;
        // The same value again is no request, nor is any other annotation.
        side.request_refresh("one", "second").await?;
        side.patch("one", &json!({"metadata": {"annotations": {"team": "web"}}}))
            .await?;
        side.create("probe", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("probe").await?;
        assert_eq!(side.secret("one").await?.version(), answered.version());
        let (after, _status) = side.get("one").await?;
        assert_eq!(after.metadata.generation, binding.metadata.generation);
        Ok(())
    })
}

#[test]
fn request_for_a_refresh_is_answered_when_the_broker_is_back() -> anyhow::Result<()> {
    in_both_apis_alone(async |stack, side| {
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let before = side.secret("one").await?;
        stack.broker().stop().await;
        side.request_refresh("one", "while the broker is gone").await?;
        let degraded = side.condition("one", "RefreshDegraded", "True").await;
        let during = side.secret("one").await;
        stack.broker().start().await?;
        let ready = degraded?.conditions.into_iter().find(|one| one.type_ == "Ready");
        assert_eq!(ready.map(|ready| ready.status).as_deref(), Some("True"));
        assert_eq!(during?.version(), before.version(), "the Secret was touched");
        answers(side, "while the broker is gone").await?;
        side.condition("one", "RefreshDegraded", "False").await?;
        Ok(())
    })
}
