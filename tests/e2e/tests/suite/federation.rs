//! The main path: a ServiceAccount's own identity.

use std::time::Duration;

use azure_simulator::{Operation, Service};
use e2e::binding;

use crate::shared::beside_others;

/// What is missing in Azure is asked for at least this often in the first quarter of an hour.
const WAITING_CAP: Duration = Duration::from_secs(60);

/// The user name that stands for a token.
const NULL_GUID: &str = "00000000-0000-0000-0000-000000000000";

#[test]
fn workload_identity_binding_gets_secret_link_and_status() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("wi").await?;
        let application = team.federated_account("web").await?;
        let scope = "repository:team/web:pull";
        team.create(&binding::workload_identity("web", "web", team.registry(), scope))
            .await?;

        let ready = team.ready("web").await?;
        let status = ready.status.as_ref().expect("a ready binding has a status");
        assert_eq!(status.pull_secret_name.as_deref(), Some("acr-pull-web"));
        assert_eq!(status.granted_scope.as_deref(), Some(scope));
        assert_eq!(status.observed_generation, ready.metadata.generation);
        assert!(status.error.is_none() && status.token_expiration_time > status.last_token_refresh_time);

        let secret = team.secret("web").await?;
        assert_eq!(secret.logins.len(), 1);
        assert_eq!(secret.login(team.registry())?.username, NULL_GUID);
        let owners = secret
            .object
            .metadata
            .owner_references
            .as_deref()
            .unwrap_or_default();
        assert_eq!(owners.len(), 1);
        assert_eq!(
            (&owners[0].uid, owners[0].controller),
            (ready.metadata.uid.as_ref().unwrap(), Some(true))
        );
        assert_eq!(team.links("web").await?, ["acr-pull-web"]);

        let calls = stack.azure().calls().await?;
        assert_eq!(
            calls
                .clone()
                .of(Service::Entra, Operation::Token)
                .client_id(&application.client_id)
                .count(),
            1
        );
        for operation in [Operation::Exchange, Operation::Token] {
            assert_eq!(
                calls
                    .clone()
                    .of(Service::Acr, operation)
                    .host(team.registry())
                    .count(),
                1
            );
        }
        Ok(())
    })
}

#[test]
fn b23_workload_identity_two_bindings_on_one_account_cost_one_entra_call() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("wi-two").await?;
        let application = team.federated_account("web").await?;
        for (name, scope) in [
            ("one", "repository:team/one:pull"),
            ("two", "repository:team/two:pull"),
        ] {
            team.create(&binding::workload_identity(name, "web", team.registry(), scope))
                .await?;
        }
        team.ready("one").await?;
        team.ready("two").await?;

        let calls = stack.azure().calls().await?;
        assert_eq!(
            calls
                .clone()
                .of(Service::Entra, Operation::Token)
                .client_id(&application.client_id)
                .count(),
            1
        );
        assert_eq!(
            calls
                .clone()
                .of(Service::Acr, Operation::Exchange)
                .host(team.registry())
                .count(),
            1
        );
        assert_eq!(
            calls
                .of(Service::Acr, Operation::Token)
                .host(team.registry())
                .count(),
            2
        );
        let (one, two) = (team.secret("one").await?, team.secret("two").await?);
        assert_ne!(
            one.login(team.registry())?.password,
            two.login(team.registry())?.password
        );
        let mut links = team.links("web").await?;
        links.sort_unstable();
        assert_eq!(links, ["acr-pull-one", "acr-pull-two"]);
        Ok(())
    })
}

#[test]
fn b1a_workload_identity_late_role_grant_recovers_by_itself() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("wi-late").await?;
        let application = team.application("web").await?;
        let created = team
            .create(&binding::workload_identity(
                "web",
                "web",
                team.registry(),
                "repository:team/web:pull",
            ))
            .await?;
        let refused = team.refused("web", "Ready", "RegistryUnauthorized").await?;
        assert!(team.pull_secret("web").await?.is_none(), "{refused:?}");

        stack
            .azure()
            .grant_pull(team.registry(), &application.object_id)
            .await?;
        let ready = team
            .wait_binding("web", "recovers", WAITING_CAP, |binding| {
                e2e::condition(binding, "Ready").is_some_and(|ready| ready.status == "True")
            })
            .await?;
        assert_eq!(ready.metadata.generation, created.metadata.generation);
        assert!(
            ready.metadata.annotations.unwrap_or_default().is_empty(),
            "nobody has touched it"
        );
        assert!(team.secret("web").await?.login(team.registry()).is_ok());
        Ok(())
    })
}

#[test]
fn workload_identity_unknown_to_entra_names_the_subject_that_it_wants() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("wi-unknown").await?;
        let application = team.federated_account("web").await?;
        team.create_account(
            "other",
            &[],
            &[("azure.workload.identity/client-id", &application.client_id)],
        )
        .await?;
        team.create(&binding::workload_identity(
            "web",
            "other",
            team.registry(),
            "repository:team/web:pull",
        ))
        .await?;
        let refused = team
            .refused("web", "CredentialIssued", "FederationRejected")
            .await?;
        let subject = format!("system:serviceaccount:{}:other", team.namespace());
        assert!(refused.message.contains(&subject), "{}", refused.message);
        Ok(())
    })
}
