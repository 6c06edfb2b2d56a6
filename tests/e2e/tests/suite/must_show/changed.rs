//! A spec that changes while Azure is out of order: what the old one brought stays as long as nothing replaces it, and the
//! status says that it is not what was asked for.

use std::time::Duration;

use azure_simulator::{Action, Fault, Operation, Service};
use e2e::{PullSecret, wait_for};
use futures::future::try_join_all;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use syncer::binding::ApiVersion;

use crate::shared::life_events::CHANGING;
use crate::shared::{SHORT_LIFE_S, beside_others};
use crate::side::{ACCOUNT, OWN, Side};

/// How long Azure stays out of order after the tokens have expired.
const LONGER: Duration = Duration::from_secs(5);
/// Until the end of a token, and for a pass.
const EXPIRED: Duration = Duration::from_secs(SHORT_LIFE_S + 5);
/// The longest pause between two attempts, and for a pass.
const RECOVERED: Duration = Duration::from_secs(65);

#[test]
fn change_whose_mint_fails_leaves_the_old_payload_past_its_end_and_is_not_ready_until_it_is_replaced()
-> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(CHANGING.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        let before = try_join_all(sides.iter().map(async |side| {
            side.create("one", &side.spec_for(&CHANGING, ACCOUNT, &scope(side, "old")))
                .await?;
            side.ready("one").await?;
            side.secret("one").await
        }))
        .await?;
        let ends: Vec<Timestamp> = before.iter().map(expiry).collect::<Result<_, _>>()?;
        let light = ends
            .into_iter()
            .max()
            .map(|end| SignedDuration::try_from(LONGER).map(|more| end + more));
        let failing = Fault {
            to: light.transpose()?,
            ..Fault::new(Action::status(503)).on(Service::Acr, Operation::Token)
        };
        stack.azure().add_fault(failing.host(CHANGING.registry)).await?;

        for side in &sides {
            let spec = side.spec_for(&CHANGING, ACCOUNT, &scope(side, "new"));
            side.patch("one", &json!({ "spec": spec })).await?;
        }
        for (side, before) in sides.iter().zip(&before) {
            let status = side.condition("one", "Ready", "False").await?;
            assert!(status.error.is_some(), "{status:?}");
            assert_ne!(
                status.granted_scope.as_deref(),
                Some(&*scope(side, "new")),
                "nobody granted it"
            );
            assert!(Timestamp::now() < expiry(before)?, "it has expired already");
            is_left(side, before).await?;
        }
        let end = before.iter().map(expiry).collect::<Result<Vec<_>, _>>()?;
        wait_for("both have expired", EXPIRED, async || {
            Ok(end.iter().all(|end| Timestamp::now() > *end))
        })
        .await?;
        for (side, before) in sides.iter().zip(&before) {
            side.condition("one", "Ready", "False").await?;
            is_left(side, before).await?;
        }

        wait_for("both have recovered", RECOVERED, async || {
            let found = try_join_all(sides.iter().map(async |side| {
                let (_binding, status) = side.get("one").await?;
                anyhow::Ok(status.granted_scope.as_deref() == Some(&*scope(side, "new")))
            }));
            Ok(found.await?.into_iter().all(|is_granted| is_granted))
        })
        .await?;
        for (side, before) in sides.iter().zip(&before) {
            side.ready("one").await?;
            let after = side.secret("one").await?;
            assert_ne!(after.docker_config, before.docker_config);
            assert_eq!(after.version().1, before.version().1, "the Secret was replaced");
        }
        Ok(())
    })
}

/// A token for each API, before and after.
fn scope(side: &Side<'_>, when: &str) -> String {
    format!("repository:team/{when}-{}:pull", side.api.version())
}

async fn is_left(side: &Side<'_>, before: &PullSecret) -> anyhow::Result<()> {
    let during = side.secret("one").await?;
    assert_eq!(
        during.docker_config, before.docker_config,
        "the payload was touched"
    );
    assert_eq!(expiry(&during)?, expiry(before)?);
    assert_eq!(during.version().1, before.version().1, "the Secret was replaced");
    Ok(())
}

fn expiry(secret: &PullSecret) -> anyhow::Result<Timestamp> {
    let time = secret.annotation("acr.microsoft.com/token.expiry");
    Ok(time.unwrap_or_default().parse()?)
}
