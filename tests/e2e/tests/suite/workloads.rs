//! Workloads that ask the broker for themselves, with tokens as their API server issues them.

use std::time::Duration;

use e2e::{BROKER_AUDIENCE, FEDERATION_AUDIENCE};

use crate::shared::{WORKLOADS, beside_others};
use crate::wire::{Wires, federated};

const SCOPE: &str = "repository:team/web:pull";
/// The shortest life of a token.
const TEN_MINUTES: Duration = Duration::from_mins(10);

#[test]
fn a1_workload_gets_a_credential_for_itself_and_for_nobody_else() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let (team, elsewhere) = (stack.team(WORKLOADS).await?, stack.team("not-itself").await?);
        let wires = Wires::to(stack).await?;
        let client_id = team.federated_account("web").await?.client_id;
        team.create_account("other", &[], &[]).await?;
        elsewhere.create_account("web", &[], &[]).await?;
        let token = async |namespace: &str, account: &str, audience: &str| {
            stack.mint_token(namespace, account, audience, TEN_MINUTES).await
        };
        let caller = token(team.namespace(), "web", BROKER_AUDIENCE).await?;
        let subject = token(team.namespace(), "web", FEDERATION_AUDIENCE).await?;
        let others = token(team.namespace(), "other", FEDERATION_AUDIENCE).await?;
        let request = |namespace: &str, subject: &str| {
            federated(namespace, team.registry(), SCOPE, &client_id, subject)
        };
        let own = request(team.namespace(), &subject);

        // Before and after it is cached.
        for _ in 0..2 {
            let answer = wires.ask(Some(&caller), &own).await?;
            assert!(answer.is_ok(), "{answer:?}");
        }
        let neighbour = token(team.namespace(), "other", BROKER_AUDIENCE).await?;
        let stranger = token(elsewhere.namespace(), "web", BROKER_AUDIENCE).await?;
        for (what, bearer, request) in [
            ("another ServiceAccount's credential", &neighbour, &own),
            ("one of a namespace that is not listed", &stranger, &own),
            (
                "another namespace",
                &caller,
                &request(elsewhere.namespace(), &subject),
            ),
            (
                "another ServiceAccount's token",
                &caller,
                &request(team.namespace(), &others),
            ),
        ] {
            let refused = wires.ask(Some(bearer), request).await?;
            assert_eq!(refused.err().as_deref(), Some("CALLER_NOT_PERMITTED"), "{what}");
        }
        Ok(())
    })
}
