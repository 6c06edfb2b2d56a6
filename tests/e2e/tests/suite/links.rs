//! The list of a ServiceAccount: ours comes and goes, everybody else's stays.

use std::time::Duration;

use e2e::{binding, wait_for};
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::shared::beside_others;

const SCOPE: &str = "repository:team/web:pull";
const PATIENCE: Duration = Duration::from_secs(15);

#[test]
fn link_of_a_deleted_binding_goes_with_its_secret_and_others_stay() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("link-gone").await?;
        let application = team.application("helper").await?;
        stack
            .azure()
            .grant_pull(team.registry(), &application.object_id)
            .await?;
        team.create_account("web", &["first", "acr-pull-of-somebody", "second"], &[])
            .await?;
        for name in ["one", "two"] {
            team.create(&helped(name, "web", team.registry())).await?;
            team.ready(name).await?;
        }
        team.wait_links(
            "web",
            &[
                "first",
                "acr-pull-of-somebody",
                "second",
                "acr-pull-one",
                "acr-pull-two",
            ],
        )
        .await?;

        team.delete("one").await?;
        team.wait_links(
            "web",
            &["first", "acr-pull-of-somebody", "second", "acr-pull-two"],
        )
        .await?;
        let secrets = team.api::<Secret>();
        wait_for("the Secret is gone", PATIENCE, async || {
            Ok(secrets.get_opt("acr-pull-one").await?.is_none())
        })
        .await?;
        assert!(team.pull_secret("two").await?.is_some());
        Ok(())
    })
}

#[test]
fn link_of_a_missing_account_is_made_when_it_is_created() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("link-late").await?;
        team.federated_account("helper").await?;
        team.create(&helped("web", "web", team.registry())).await?;
        team.refused("web", "ServiceAccountLinked", "ServiceAccountNotFound")
            .await?;
        wait_for("the Secret is written all the same", PATIENCE, async || {
            Ok(team.pull_secret("web").await?.is_some())
        })
        .await?;
        team.create_account("web", &[], &[]).await?;
        team.ready("web").await?;
        assert_eq!(team.links("web").await?, ["acr-pull-web"]);
        Ok(())
    })
}

#[test]
fn link_moves_when_the_binding_names_another_account() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("link-moved").await?;
        team.federated_account("helper").await?;
        team.create_account("blue", &["own"], &[]).await?;
        team.create_account("green", &["own"], &[]).await?;
        team.create(&helped("web", "blue", team.registry())).await?;
        team.ready("web").await?;
        assert_eq!(team.links("blue").await?, ["own", "acr-pull-web"]);
        team.patch("web", &json!({"spec": {"serviceAccountName": "green"}}))
            .await?;
        team.wait_links("green", &["own", "acr-pull-web"]).await?;
        team.wait_links("blue", &["own"]).await?;
        Ok(())
    })
}

/// A binding of one account with the identity of another, `helper`.
fn helped(name: &str, account: &str, registry: &str) -> syncer::crd::AcrPullBinding {
    let mut binding = binding::workload_identity(name, "helper", registry, SCOPE);
    account.clone_into(&mut binding.spec.service_account_name);
    binding
}
