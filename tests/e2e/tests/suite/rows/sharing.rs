//! What many bindings of one identity and one scope cost in Azure.

use azure_simulator::{Operation, Service};
use e2e::binding;
use futures::future::try_join_all;

use crate::shared::beside_others;
use crate::side::{ACCOUNT, SCOPE};

const BINDINGS: usize = 100;

#[test]
fn b23_bindings_of_one_identity_and_one_scope_cost_one_token() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("sharing").await?;
        let application = team.federated_account(ACCOUNT).await?;
        let names: Vec<String> = (0..BINDINGS).map(|number| format!("b{number}")).collect();
        try_join_all(names.iter().map(async |name| {
            team.create(&binding::workload_identity(name, ACCOUNT, team.registry(), SCOPE))
                .await
        }))
        .await?;
        let mut tokens = Vec::new();
        for name in &names {
            team.ready(name).await?;
            tokens.push(team.secret(name).await?.login(team.registry())?.password.clone());
        }
        tokens.dedup();
        assert_eq!(tokens.len(), 1, "they do not share the token");

        let calls = stack.azure().calls().await?;
        let entra = calls.clone().of(Service::Entra, Operation::Token);
        assert_eq!(entra.client_id(&application.client_id).count(), 1);
        for operation in [Operation::Exchange, Operation::Token] {
            let of_registry = calls.clone().of(Service::Acr, operation).host(team.registry());
            assert_eq!(of_registry.count(), 1, "{operation:?}");
        }
        Ok(())
    })
}
