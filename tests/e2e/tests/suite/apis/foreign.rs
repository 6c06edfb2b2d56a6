//! A Secret of somebody else under the name of a binding's: nobody is asked for a token as long as it is there, and once it
//! has gone the binding goes on, by itself or because somebody asks.

use std::time::Duration;

use e2e::wait_for;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{DeleteParams, PostParams};
use serde_json::json;
use syncer::binding::ApiVersion;
use tokio::time::Instant;

use super::{ACCOUNT, OWN, Side};
use crate::shared::beside_others;
use crate::shared::life_events::FOREIGN;

/// Such a Secret has none of our labels, so it is not watched: it is looked at again after half a minute, and twice as long
/// after that.
const NOTICED: Duration = Duration::from_secs(65);
/// What somebody asks for is done at once.
const SOON: Duration = Duration::from_secs(5);
/// The bindings of each API: the one is left to itself, for the other somebody asks.
const NAMES: [&str; 2] = ["waits", "asked"];

#[test]
fn b6_secret_of_somebody_else_costs_no_azure_call_until_it_goes_and_then_is_made_anew() -> anyhow::Result<()>
{
    beside_others(async |stack| {
        let team = stack.team(FOREIGN.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let all: Vec<_> = sides
            .iter()
            .flat_map(|side| NAMES.map(|name| (side, name)))
            .collect();
        let secrets = team.api::<Secret>();
        let mut foreign = Vec::new();
        for (side, name) in &all {
            let secret: Secret = serde_json::from_value(json!({
                "metadata": {"name": side.secret_name(name)},
                "stringData": {"password": "of somebody else"},
            }))?;
            foreign.push(secrets.create(&PostParams::default(), &secret).await?);
            // A token for each, so that none comes from the broker's cache.
            let scope = format!("repository:team/{name}-{}:pull", side.api.version());
            side.create(name, &side.spec_for(&FOREIGN, ACCOUNT, &scope))
                .await?;
        }
        for (side, name) in &all {
            side.refused(name, "SecretSynced", "SecretConflict").await?;
            side.refused(name, "Ready", "SecretConflict").await?;
        }
        for ((side, name), foreign) in all.iter().zip(&foreign) {
            let found = secrets.get(&side.secret_name(name)).await?;
            assert_eq!(&found, foreign, "it was touched");
        }
        assert_eq!(team.links(ACCOUNT).await?, [OWN]);
        let client_id = FOREIGN.identity().client_id;
        let asked = stack.azure().calls().await?.filter(|call| {
            let mut query = call.query.iter();
            call.host == FOREIGN.registry
                || call.client_id.as_ref() == Some(&client_id)
                || query.any(|(_name, value)| *value == client_id)
        });
        assert!(asked.is_empty(), "Azure was asked: {:#?}", asked.entries());

        let recovering = all
            .iter()
            .map(async |(side, name)| recovers(side, name, *name == "asked").await);
        for ((side, name), took) in all.iter().zip(try_join_all(recovering).await?) {
            println!("{} {name}: noticed after {took:?}", side.api.as_str());
        }
        Ok(())
    })
}

/// The Secret goes, and the binding gets its own, after so long. Nobody changes the spec.
async fn recovers(side: &Side<'_>, name: &str, is_asked_for: bool) -> anyhow::Result<Duration> {
    let (before, _status) = side.get(name).await?;
    let secrets = side.team.api::<Secret>();
    secrets
        .delete(&side.secret_name(name), &DeleteParams::default())
        .await?;
    let deleted = Instant::now();
    let patience = if is_asked_for {
        side.request_refresh(name, "it is gone").await?;
        SOON
    } else {
        NOTICED
    };
    wait_for(&format!("{name} has its own Secret"), patience, async || {
        let secret = side.secret(name).await;
        Ok(secret.is_ok_and(|secret| secret.login(FOREIGN.registry).is_ok()))
    })
    .await?;
    let took = deleted.elapsed();
    side.ready(name).await?;
    let links = side.team.links(ACCOUNT).await?;
    assert!(links.contains(&side.secret_name(name)), "{links:?}");
    let (after, _status) = side.get(name).await?;
    assert_eq!(after.metadata.generation, before.metadata.generation);
    Ok(took)
}
