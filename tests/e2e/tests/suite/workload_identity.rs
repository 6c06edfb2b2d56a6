//! The main path: a ServiceAccount's own identity.

use azure_simulator::{Operation, Service};
use e2e::binding;

use crate::shared::beside_others;

/// The user name that stands for a token.
const NULL_GUID: &str = "00000000-0000-0000-0000-000000000000";

#[test]
fn workload_identity_binding_gets_secret_link_and_status() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("wi").await?;
        let application = team.federated_account("web").await?;
        let scope = "repository:team/web:pull";
        team.create(&binding::workload_identity("web", "web", team.registry(), scope)).await?;

        let ready = team.ready("web").await?;
        let status = ready.status.as_ref().expect("a ready binding has a status");
        assert_eq!(status.pull_secret_name.as_deref(), Some("acr-pull-web"));
        assert_eq!(status.granted_scope.as_deref(), Some(scope));
        assert_eq!(status.observed_generation, ready.metadata.generation);
        assert!(status.error.is_none() && status.token_expiration_time > status.last_token_refresh_time);

        let secret = team.secret("web").await?;
        assert_eq!(secret.logins.len(), 1);
        assert_eq!(secret.login(team.registry())?.username, NULL_GUID);
        let owners = secret.object.metadata.owner_references.as_deref().unwrap_or_default();
        assert_eq!(owners.len(), 1);
        assert_eq!((&owners[0].uid, owners[0].controller), (ready.metadata.uid.as_ref().unwrap(), Some(true)));
        assert_eq!(team.links("web").await?, ["acr-pull-web"]);

        let calls = stack.azure().calls().await?;
        assert_eq!(calls.clone().of(Service::Entra, Operation::Token).client_id(&application.client_id).count(), 1);
        for operation in [Operation::Exchange, Operation::Token] {
            assert_eq!(calls.clone().of(Service::Acr, operation).host(team.registry()).count(), 1);
        }
        Ok(())
    })
}
