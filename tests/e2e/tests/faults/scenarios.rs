//! What heals by itself or is put right by somebody: the caller does what it is told, and gets its credential.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::{
    Action, ClockChange, ClockSettings, Fault, Operation, Role, RoleMode, Service, ServiceAccountToken,
};
use e2e::rig::{ACCOUNT, Caller, ISSUER, Refusal, TEAM};
use e2e::{FEDERATION_AUDIENCE, Rig};
use jiff::{SignedDuration, Timestamp};
use proto::Reason;
use proto::v1::{GetDockerConfigRequest, GetDockerConfigResponse, HeldCredential};
use tokio::time::Instant;

use crate::play::Stage;
use crate::row::Hop;

/// Sites of the scenarios that are played beside the fault table.
pub(crate) const NAMES: [&str; 6] = [
    "late-role",
    "late-federation",
    "metadata-update",
    "dead-access-token",
    "dead-refresh-token",
    "ten-second-tokens",
];

/// A token younger than this is not minted anew, whatever is said about it.
const YOUNG: Duration = Duration::from_secs(60);

/// Plays all of them at once. Each by its name, with what came of it.
pub(crate) async fn play_all(stage: &Stage<'_>, caller: &Caller) -> Vec<(String, anyhow::Result<()>)> {
    stage.after_the_silent().await;
    let rig = stage.rig;
    let [role, federation, metadata, access, refresh, short] = NAMES;
    let played = tokio::join!(
        late_role(rig, caller, role),
        late_federation(rig, caller, federation),
        metadata_update(rig, metadata),
        dead_token(rig, caller, access, false),
        dead_token(rig, caller, refresh, true),
        ten_second_tokens(rig, caller, short),
        clocks_apart(),
    );
    vec![
        (role.to_owned(), played.0),
        (federation.to_owned(), played.1),
        (metadata.to_owned(), played.2),
        (access.to_owned(), played.3),
        (refresh.to_owned(), played.4),
        (short.to_owned(), played.5),
        ("clocks-apart".to_owned(), played.6),
    ]
}

/// A role that has been granted takes minutes to reach the registry.
async fn late_role(rig: &Rig, caller: &Caller, name: &str) -> anyhow::Result<()> {
    let site = rig.site(name)?;
    let later = Timestamp::now() + SignedDuration::from_secs(8);
    rig.azure().update(|state| {
        if let Some(registry) = state.registry_mut(&site.registry) {
            registry.roles.clear();
            registry.grant(&site.application.object_id, Role::AcrPull, Some(later));
        }
    })?;
    let refused = until_served(caller, &rig.federated(site), Duration::from_secs(25)).await?;
    ensure_reasons(&refused, Reason::RegistryUnauthorized)?;
    let calls = Hop::Exchange.calls(rig, site).count();
    ensure!(calls == 2, "{calls} exchanges");
    ensure!(
        Hop::Entra.calls(rig, site).count() == 1,
        "the token of Entra was good"
    );
    Ok(())
}

/// A new federated credential is unknown at first, and then known to some nodes and not to others.
async fn late_federation(rig: &Rig, caller: &Caller, name: &str) -> anyhow::Result<()> {
    let site = rig.site(name)?;
    let now = Timestamp::now();
    rig.azure().update(|state| {
        let principal = state.principal_mut(&site.application.client_id);
        for trust in principal.into_iter().flat_map(|principal| &mut principal.fics) {
            trust.visible_at = Some(now + SignedDuration::from_secs(5));
            trust.flaky_until = Some(now + SignedDuration::from_secs(20));
        }
    })?;
    // 15 s and 30 s later by the schedule; by then all nodes know it.
    let refused = until_served(caller, &rig.federated(site), Duration::from_secs(55)).await?;
    ensure_reasons(&refused, Reason::FederationRejected)?;
    ensure!(refused.len() <= 2, "refused {} times", refused.len());
    Ok(())
}

/// While the metadata service is updated it answers 410, for 70 s at most.
async fn metadata_update(rig: &Rig, name: &str) -> anyhow::Result<()> {
    let site = rig.site(name)?;
    let broker = rig.broker(name).await?;
    let gone = Fault {
        to: Some(Timestamp::now() + SignedDuration::from_secs(12)),
        ..Hop::Imds.fault(site, Action::status(410))
    };
    rig.azure().add_fault(gone)?;
    let refused = until_served(
        &rig.caller(&broker)?,
        &site.broker_owned(),
        Duration::from_secs(40),
    )
    .await?;
    ensure_reasons(&refused, Reason::IdentityEndpointUnreachable)
}

/// Switching a registry to another role mode kills every token that it has issued. A caller that reports it gets one that
/// works, and its report counts once.
async fn dead_token(rig: &Rig, caller: &Caller, name: &str, is_registry_wide: bool) -> anyhow::Result<()> {
    let site = rig.site(name)?;
    let mut request = rig.federated(site);
    if is_registry_wide {
        request.scopes.clear();
    }
    let first = served(caller, &request).await?;
    ensure!(
        rig.is_accepted(site, &first).await?,
        "the registry refuses its own token"
    );
    tokio::time::sleep(YOUNG).await;
    rig.azure().update(|state| {
        if let Some(registry) = state.registry_mut(&site.registry) {
            registry.switch_mode(RoleMode::RbacAbac);
            registry.grant(&site.application.object_id, Role::RepoReader, None);
        }
    })?;
    ensure!(
        !rig.is_accepted(site, &first).await?,
        "the token has outlived the switch"
    );

    let report = GetDockerConfigRequest {
        held: Some(HeldCredential {
            fingerprint: first.fingerprint.clone(),
            expire_time: first.expire_time,
        }),
        rejected_fingerprint: first.fingerprint.clone(),
        ..request
    };
    let second = served(caller, &report).await?;
    ensure!(
        second.fingerprint != first.fingerprint,
        "the dead token was handed out again"
    );
    ensure!(
        rig.is_accepted(site, &second).await?,
        "the new token is no better"
    );
    let exchanges = Hop::Exchange.calls(rig, site).count();
    ensure!(exchanges == 2, "{exchanges} exchanges");
    let again = served(caller, &report).await?;
    ensure!(
        again.fingerprint == second.fingerprint,
        "one report was heard twice"
    );
    ensure!(
        Hop::Exchange.calls(rig, site).count() == exchanges,
        "one report was heard twice"
    );
    Ok(())
}

/// A token that is dead before it could be used is refused, and that does not become a loop.
async fn ten_second_tokens(rig: &Rig, caller: &Caller, name: &str) -> anyhow::Result<()> {
    let site = rig.site(name)?;
    rig.azure().update(|state| {
        if let Some(registry) = state.registry_mut(&site.registry) {
            registry.access_ttl_s = 10;
        }
    })?;
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        let answer = caller.ask(&rig.federated(site)).await?;
        let refusal = answer
            .err()
            .context("a token that lives for ten seconds was handed out")?;
        ensure_reasons(&[refusal], Reason::UpstreamMalformed)?;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Full jitter doubles from a second: more than ten in five seconds have a chance of one in millions.
    let calls = Hop::Token.calls(rig, site).count();
    ensure!((2..=10).contains(&calls), "{calls} calls in five seconds");
    Ok(())
}

/// Clocks that are ten minutes off, of Entra and of the registry, on an Azure of their own.
async fn clocks_apart() -> anyhow::Result<()> {
    let sites = [
        "entra-behind",
        "entra-ahead",
        "registry-behind",
        "registry-ahead",
        "expired",
    ];
    let rig = Rig::start("clocks", sites).await?;
    let broker = rig.broker("broker").await?;
    let caller = rig.caller(&broker)?;
    for (site, service, seconds) in [
        ("entra-ahead", Service::Entra, 600),
        ("registry-behind", Service::Acr, -600),
        ("registry-ahead", Service::Acr, 600),
    ] {
        set_clock(&rig, service, seconds)?;
        served(&caller, &rig.federated(rig.site(site)?))
            .await
            .with_context(|| site.to_owned())?;
    }
    // To Entra the ServiceAccount's token is of the future; when the clock is right, it heals by itself.
    set_clock(&rig, Service::Entra, -600)?;
    let request = rig.federated(rig.site("entra-behind")?);
    let refusal = caller
        .ask(&request)
        .await?
        .err()
        .context("a token of the future was accepted")?;
    ensure_reasons(&[refusal], Reason::FederationRejected)?;
    set_clock(&rig, Service::Entra, 0)?;
    until_served(&caller, &request, Duration::from_secs(25)).await?;

    let site = rig.site("expired")?;
    let mut wanted = ServiceAccountToken::new(ISSUER, TEAM, ACCOUNT, FEDERATION_AUDIENCE);
    wanted.ttl = -60;
    let expired = rig.azure().service_account_token(&wanted)?;
    let refusal = caller
        .ask(&site.federated(&expired))
        .await?
        .err()
        .context("an expired token was accepted")?;
    ensure!(refusal.reason == Reason::SubjectTokenRejected, "{refusal:?}");
    let shown = rig
        .azure()
        .calls()
        .of(Service::Entra, Operation::Token)
        .host(&site.authority);
    ensure!(shown.is_empty(), "an expired token was shown to Entra");
    Ok(())
}

fn set_clock(rig: &Rig, service: Service, seconds: i64) -> anyhow::Result<()> {
    let settings = ClockSettings {
        service_offsets_s: [(service, seconds)].into(),
        ..ClockSettings::default()
    };
    rig.azure().change_clock(ClockChange {
        settings: Some(settings),
        ..ClockChange::default()
    })?;
    Ok(())
}

async fn served(
    caller: &Caller,
    request: &GetDockerConfigRequest,
) -> anyhow::Result<GetDockerConfigResponse> {
    let answer = caller.ask(request).await?;
    answer.map_err(|refusal| anyhow::anyhow!("{refusal:?}"))
}

/// Asks, waits as it is told, and asks again, as the syncer does. Returns what was said until then.
async fn until_served(
    caller: &Caller,
    request: &GetDockerConfigRequest,
    within: Duration,
) -> anyhow::Result<Vec<Refusal>> {
    let end = Instant::now() + within;
    let mut refused = Vec::new();
    while let Err(refusal) = caller.ask(request).await? {
        ensure!(Instant::now() < end, "not within {within:?}: {refusal:?}");
        let wait = refusal
            .retry_after
            .with_context(|| format!("no word on when to ask again: {refusal:?}"))?;
        refused.push(refusal);
        tokio::time::sleep(wait).await;
    }
    Ok(refused)
}

fn ensure_reasons(refused: &[Refusal], expected: Reason) -> anyhow::Result<()> {
    ensure!(!refused.is_empty(), "nothing was refused");
    let other = refused.iter().find(|refusal| refusal.reason != expected);
    ensure!(other.is_none(), "expected {expected:?}, got {other:?}");
    Ok(())
}
