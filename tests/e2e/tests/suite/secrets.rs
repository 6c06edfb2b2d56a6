//! The pull Secret as an object: whose it is, and what is adopted.

use e2e::binding;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ObjectMeta, PostParams};

use crate::shared::beside_others;

const SCOPE: &str = "repository:team/web:pull";

#[test]
fn secret_without_an_owner_but_with_our_label_is_adopted_in_place() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("orphan").await?;
        team.federated_account("web").await?;
        let labels = [("acr.microsoft.com/binding".to_owned(), "web".to_owned())];
        let orphan = Secret {
            metadata: ObjectMeta {
                name: Some("acr-pull-web".to_owned()),
                labels: Some(labels.into()),
                ..ObjectMeta::default()
            },
            type_: Some("kubernetes.io/dockerconfigjson".to_owned()),
            string_data: Some([(".dockerconfigjson".to_owned(), r#"{"auths":{}}"#.to_owned())].into()),
            ..Secret::default()
        };
        let orphan = team
            .api::<Secret>()
            .create(&PostParams::default(), &orphan)
            .await?;
        let binding = team
            .create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.ready("web").await?;
        let adopted = team.secret("web").await?;
        assert_eq!(
            adopted.object.metadata.uid, orphan.metadata.uid,
            "the Secret was replaced"
        );
        let owners = adopted
            .object
            .metadata
            .owner_references
            .clone()
            .unwrap_or_default();
        assert_eq!(
            owners.first().map(|owner| owner.uid.as_str()),
            binding.metadata.uid.as_deref()
        );
        assert!(adopted.login(team.registry()).is_ok());
        Ok(())
    })
}

#[test]
fn b6_secret_of_somebody_else_stays_untouched_and_costs_no_azure_call() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("link-foreign").await?;
        let application = team.federated_account("web").await?;
        let foreign = Secret {
            metadata: ObjectMeta {
                name: Some("acr-pull-web".to_owned()),
                ..ObjectMeta::default()
            },
            string_data: Some([("password".to_owned(), "of somebody else".to_owned())].into()),
            ..Secret::default()
        };
        let secrets = team.api::<Secret>();
        let before = secrets.create(&PostParams::default(), &foreign).await?;
        team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.refused("web", "Ready", "SecretConflict").await?;
        assert_eq!(secrets.get("acr-pull-web").await?, before, "it was touched");
        assert!(team.links("web").await?.is_empty());
        assert!(
            stack
                .azure()
                .calls()
                .await?
                .client_id(&application.client_id)
                .is_empty(),
            "Azure was asked"
        );
        Ok(())
    })
}
