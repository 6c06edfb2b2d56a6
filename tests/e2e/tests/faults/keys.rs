//! A cluster that signs with a new key.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::IssuerKeys;
use e2e::{Rig, wait_for};
use proto::Reason;

/// What an operator changes is in force after this long.
const IN_FORCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a6_new_key_of_a_cluster_is_in_force_within_ten_seconds_and_the_old_one_no_longer()
-> anyhow::Result<()> {
    let rig = Rig::start("key-rotation", ["rotation"]).await?;
    let broker = rig.broker("broker").await?;
    let site = rig.site("rotation")?;
    let before = rig.caller(&broker)?;
    // It takes no token but the caller's.
    let request = site.broker_owned();
    ensure!(before.ask(&request).await?.is_ok(), "the first key is good");

    rig.azure().update(|state| {
        for issuer in &mut state.issuers {
            issuer.keys = IssuerKeys::Simulated {
                kids: vec!["k2".to_owned()],
            };
        }
    })?;
    let after = rig.caller_with(&broker, &rig.syncer_token()?)?;
    let refusal = after
        .ask(&request)
        .await?
        .err()
        .context("nobody has told the broker of the key")?;
    ensure!(refusal.reason == Reason::ClusterNotRegistered, "{refusal:?}");
    rig.publish_keys()?;
    wait_for("the new key is in force", IN_FORCE, async || {
        Ok(after.ask(&request).await?.is_ok())
    })
    .await?;
    // On a hit as well.
    let refusal = before
        .ask(&request)
        .await?
        .err()
        .context("the old key is still good")?;
    ensure!(refusal.reason == Reason::ClusterNotRegistered, "{refusal:?}");
    Ok(())
}
