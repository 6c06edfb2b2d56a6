//! `kubectl wait` by people and pipelines that know nothing of either API.

use e2e::Stack;
use serde_json::json;

use super::{ACCOUNT, SCOPE, Side, in_both_apis};

const OTHER: &str = "repository:team/other:pull";

#[test]
fn b30_binding_of_each_api_is_waited_for_by_kubectl_and_after_a_change_again() -> anyhow::Result<()> {
    in_both_apis(async |stack, side| {
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        waited(stack, side).await?;
        let (binding, status) = side.get("one").await?;
        assert_eq!(status.observed_generation, binding.metadata.generation);
        assert_eq!(status.granted_scope.as_deref(), Some(SCOPE));
        assert!(side.secret("one").await.is_ok());

        // It is Ready for the spec before: that does not count.
        side.patch("one", &json!({"spec": side.spec(ACCOUNT, OTHER)}))
            .await?;
        waited(stack, side).await?;
        let (binding, status) = side.get("one").await?;
        assert_eq!(status.observed_generation, binding.metadata.generation);
        assert_eq!(status.granted_scope.as_deref(), Some(OTHER));
        Ok(())
    })
}

async fn waited(stack: &Stack, side: &Side<'_>) -> anyhow::Result<()> {
    let binding = format!("acrpullbindings.{}/one", side.api.group());
    stack
        .plane()
        .kubectl(&[
            "-n",
            side.team.namespace(),
            "wait",
            "--for=condition=Ready",
            "--timeout=60s",
            &binding,
        ])
        .await?;
    Ok(())
}
