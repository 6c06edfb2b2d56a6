//! An API server that goes away and comes back under bindings that are served.

use std::time::Duration;

use e2e::binding;
use serde_json::json;

use crate::shared::alone;

const SCOPE: &str = "repository:team/web:pull";
/// The longest pause of a watch is 10 s, and its list takes a moment.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn api_server_that_restarts_costs_no_write_and_no_change_is_lost() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team("api-restart").await?;
        for account in ["web", "changed", "gone", "later"] {
            team.federated_account(account).await?;
        }
        for name in ["web", "changed", "gone"] {
            team.create(&binding::workload_identity(name, name, team.registry(), SCOPE))
                .await?;
        }
        for name in ["web", "changed", "gone"] {
            team.ready(name).await?;
        }
        let untouched = team.secret("web").await?.version();
        let status = team.ready("web").await?.metadata.resource_version;
        let before = team.secret("changed").await?.docker_config;

        stack.plane().restart_api_server().await?;
        // At once, so that the watches may not have come back yet.
        let scope = json!({"spec": {"acr": {"scope": "repository:team/other:pull"}}});
        team.patch("changed", &scope).await?;
        team.delete("gone").await?;
        team.create(&binding::workload_identity(
            "later",
            "later",
            team.registry(),
            SCOPE,
        ))
        .await?;

        team.ready("later").await?;
        team.wait_links("gone", &[]).await?;
        team.wait_binding("changed", "has another token", PATIENCE, |binding| {
            binding
                .status
                .as_ref()
                .is_some_and(|status| status.granted_scope.as_deref() == Some("repository:team/other:pull"))
        })
        .await?;
        assert_ne!(team.secret("changed").await?.docker_config, before);
        assert_eq!(
            team.secret("web").await?.version(),
            untouched,
            "a Secret was written"
        );
        assert_eq!(
            team.ready("web").await?.metadata.resource_version,
            status,
            "a status was written"
        );
        Ok(())
    })
}
