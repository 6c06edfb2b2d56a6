//! A process that goes away and comes back.

use e2e::binding;

use crate::shared::alone;

const SCOPE: &str = "repository:team/web:pull";

#[test]
fn secret_survives_restarts_of_broker_and_syncer_without_a_write() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team("restart").await?;
        let application = team.federated_account("web").await?;
        let later = team.federated_account("later").await?;
        team.create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await?;
        team.ready("web").await?;
        let before = team.secret("web").await?.version();
        let status = team.ready("web").await?.metadata.resource_version;

        stack.broker().restart().await?;
        stack.syncer().restart().await?;
        // By the time that another binding has made the whole way, the first one has been looked at.
        team.create(&binding::workload_identity(
            "later",
            "later",
            team.registry(),
            SCOPE,
        ))
        .await?;
        team.ready("later").await?;
        assert_eq!(
            team.secret("web").await?.version(),
            before,
            "the Secret was written"
        );
        assert_eq!(
            team.ready("web").await?.metadata.resource_version,
            status,
            "the status was written"
        );
        let calls = stack.azure().calls().await?;
        assert_eq!(
            calls
                .clone()
                .client_id(&application.client_id)
                .to(azure_simulator::Service::Entra)
                .count(),
            1
        );
        assert_eq!(
            calls
                .client_id(&later.client_id)
                .to(azure_simulator::Service::Entra)
                .count(),
            1
        );
        Ok(())
    })
}

#[test]
fn binding_of_a_dead_broker_says_so_and_recovers_by_itself() -> anyhow::Result<()> {
    alone(async |stack| {
        let team = stack.team("dead-broker").await?;
        team.federated_account("web").await?;
        stack.broker().stop().await;
        let created = team
            .create(&binding::workload_identity("web", "web", team.registry(), SCOPE))
            .await;
        let refused = team.refused("web", "CredentialIssued", "BrokerUnreachable").await;
        stack.broker().start().await?;
        created?;
        refused?;
        team.ready("web").await?;
        Ok(())
    })
}
