//! Bindings of the peer's that are deleted when nobody is there.

use std::time::Duration;

use e2e::wait_for;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams};
use syncer::binding::ApiVersion;

use super::peer::Bound;
use crate::shared::{HANDOVER, alone};

const PATIENCE: Duration = Duration::from_secs(60);
const OWN: &str = "own";

#[test]
fn b12_binding_of_the_peer_that_is_deleted_while_nobody_runs_takes_every_link_along() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team(HANDOVER.prefix).await?;
        let namespaces: Api<Namespace> = Api::all(stack.client()?);
        let ending = stack.team(HANDOVER.prefix).await?;
        for team in [&team, &ending] {
            for account in ["web", "web-before"] {
                team.create_account(account, &[OWN], &[]).await?;
            }
        }
        let bound = ApiVersion::ALL.map(|api| Bound::by_identity(&team, api, "web", "web"));
        let hanging = Bound::by_identity(&ending, ApiVersion::V1Beta2, "web", "web");
        let token = hanging.token().await?;
        stack.syncer().stop().await;
        for one in bound.iter().chain([&hanging]) {
            one.leave(&token).await?;
            // The ServiceAccount that the binding named before: the peer forgets it.
            one.link("web-before").await?;
        }
        for one in &bound {
            one.delete().await?;
        }
        namespaces
            .delete(ending.namespace(), &DeleteParams::default())
            .await?;
        for one in &bound {
            let still = one.get().await?;
            assert!(still.is_some_and(|(binding, _)| binding.metadata.deletion_timestamp.is_some()));
        }

        stack.syncer().start().await?;
        for one in &bound {
            wait_for("the binding is gone", PATIENCE, async || {
                Ok(one.get().await?.is_none())
            })
            .await?;
        }
        for account in ["web", "web-before"] {
            assert_eq!(team.links(account).await?, [OWN]);
        }
        let secrets = team.api::<Secret>();
        for one in &bound {
            wait_for("the Secret is gone", PATIENCE, async || {
                Ok(secrets.get_opt(&one.secret_name()).await?.is_none())
            })
            .await?;
        }
        wait_for("the namespace is gone", PATIENCE, async || {
            Ok(namespaces.get_opt(ending.namespace()).await?.is_none())
        })
        .await
    })
}
