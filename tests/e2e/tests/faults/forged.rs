//! Guarantee A1 over real sockets, before there is a credential and while it is being fetched: whose token is not good is
//! refused at once, and Azure is asked as often as without it. The whole table of forgeries is tested beside the broker.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use azure_simulator::{Service, ServiceAccountToken};
use e2e::rig::{ACCOUNT, ISSUER, TEAM};
use e2e::{BROKER_AUDIENCE, Broker, FEDERATION_AUDIENCE, Rig, Site, wait_for};
use futures::future::try_join;
use proto::Reason;

/// Every call to Azure takes this long: all forgeries are answered meanwhile.
const LATENCY_MS: u64 = 1_500;
const PATIENCE: Duration = Duration::from_secs(10);
/// Calls to Azure that a first credential takes.
const FIRST: usize = 3;
/// A key that the cluster does not publish.
const OTHER_KEY: &str = "of-another-cluster";
const SYNCER: (&str, &str) = ("acrpull-system", "acrpull-syncer");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a1_forged_tokens_are_refused_before_there_is_a_credential_and_while_it_is_fetched()
-> anyhow::Result<()> {
    let rig = Rig::start("forged", ["honest"]).await?;
    rig.azure().update(|state| {
        state.latency_ms = [Service::Entra, Service::Acr]
            .map(|service| (service, LATENCY_MS))
            .into();
    })?;
    let broker = rig.broker("broker").await?;
    let site = rig.site("honest")?;
    attack(&rig, &broker, site).await.context("nothing is cached")?;
    ensure!(calls(&rig) == 0, "Azure was asked");

    let (caller, request) = (rig.caller(&broker)?, rig.federated(site));
    // Two, because the second is counted as soon as it waits for the first.
    let good = try_join(caller.ask(&request), caller.ask(&request));
    tokio::pin!(good);
    let meanwhile = async {
        let labels = [("cache", "acr_access"), ("result", "coalesced")];
        wait_for("the credential is being fetched", PATIENCE, async || {
            let waiting = broker.counted("acrpull_broker_cache_requests_total", &labels);
            Ok(waiting.await? > 0)
        })
        .await?;
        attack(&rig, &broker, site).await.context("it is being fetched")
    };
    tokio::select! {
        answers = &mut good => bail!("the flight was over too early: {:?}", answers?.0.err()),
        attacked = meanwhile => attacked?,
    }
    let (first, second) = good.await?;
    ensure!(first.is_ok() && second.is_ok(), "the good tokens are good");
    ensure!(calls(&rig) == FIRST, "{} calls", calls(&rig));
    Ok(())
}

/// Bad signatures, and the key of another cluster: as the caller's token, and as the subject's.
async fn attack(rig: &Rig, broker: &Broker, site: &Site) -> anyhow::Result<()> {
    let (namespace, name) = SYNCER;
    for bearer in forged(rig, namespace, name, BROKER_AUDIENCE)? {
        let caller = rig.caller_with(broker, &bearer)?;
        let answer = caller.ask(&rig.federated(site)).await?;
        let reason = answer.err().map(|refusal| refusal.reason);
        ensure!(reason == Some(Reason::ClusterNotRegistered), "{reason:?}");
    }
    for subject in forged(rig, TEAM, ACCOUNT, FEDERATION_AUDIENCE)? {
        let answer = rig.caller(broker)?.ask(&site.federated(&subject)).await?;
        let reason = answer.err().map(|refusal| refusal.reason);
        ensure!(reason == Some(Reason::SubjectTokenRejected), "{reason:?}");
    }
    Ok(())
}

fn forged(rig: &Rig, namespace: &str, name: &str, audience: &str) -> anyhow::Result<[String; 2]> {
    let wanted = ServiceAccountToken::new(ISSUER, namespace, name, audience);
    let good = rig.azure().service_account_token(&wanted)?;
    let (signed, signature) = good.rsplit_once('.').context("it is no token")?;
    let spoiled = format!("{signed}.{}", signature.chars().rev().collect::<String>());
    let of_another = ServiceAccountToken {
        kid: Some(OTHER_KEY.to_owned()),
        ..wanted
    };
    Ok([spoiled, rig.azure().service_account_token(&of_another)?])
}

fn calls(rig: &Rig) -> usize {
    rig.azure().calls().count()
}
