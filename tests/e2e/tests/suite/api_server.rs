//! An API server that goes away and comes back under bindings that are served.

mod forgotten;

use serde_json::json;

use crate::side::{SCOPE, in_both_apis_alone};

const OTHER: &str = "repository:team/other:pull";

#[test]
fn api_server_that_restarts_costs_no_write_and_no_change_is_lost() -> anyhow::Result<()> {
    in_both_apis_alone(async |stack, side| {
        let names = ["kept", "changed", "gone", "later"];
        let accounts = names.map(|name| format!("web-{name}"));
        let [kept, changed, gone, later] = &accounts;
        for account in &accounts {
            side.team.create_account(account, &[], &[]).await?;
        }
        for (name, account) in [("kept", kept), ("changed", changed), ("gone", gone)] {
            side.create(name, &side.spec(account, SCOPE)).await?;
        }
        for name in ["kept", "changed", "gone"] {
            side.ready(name).await?;
        }
        let untouched = side.secret("kept").await?.version();
        let status = side.get("kept").await?.0.metadata.resource_version;
        let before = side.secret("changed").await?.docker_config;

        stack.plane().restart_api_server().await?;
        // At once, so that the watches may not have come back yet.
        side.patch("changed", &json!({"spec": side.spec(changed, OTHER)}))
            .await?;
        side.delete("gone").await?;
        side.create("later", &side.spec(later, SCOPE)).await?;

        side.ready("later").await?;
        side.team.wait_links(gone, &[]).await?;
        side.wait("changed", "has another token", |status| {
            status.granted_scope.as_deref() == Some(OTHER)
        })
        .await?;
        assert_ne!(side.secret("changed").await?.docker_config, before);
        assert_eq!(
            side.secret("kept").await?.version(),
            untouched,
            "a Secret was written"
        );
        assert_eq!(
            side.get("kept").await?.0.metadata.resource_version,
            status,
            "a status was written"
        );
        Ok(())
    })
}
