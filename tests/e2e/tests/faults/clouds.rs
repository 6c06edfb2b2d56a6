//! Every cloud, and registries that are stricter than others.

use anyhow::{Context as _, ensure};
use azure_simulator::{ACR_AUDIENCE, ArmPolicy, Operation, Service};
use e2e::rig::{BuiltInCloud, SiteOptions};
use e2e::{Rig, Site};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e2_every_cloud_is_asked_for_a_token_of_the_registry_audience() -> anyhow::Result<()> {
    const OWN_AUDIENCE: &str = "https://containerregistry.airgap.example";
    let site = SiteOptions::from;
    let sites = [
        site("public").in_cloud(BuiltInCloud::Public),
        site("government").in_cloud(BuiltInCloud::UsGovernment),
        site("china").in_cloud(BuiltInCloud::China),
        site("airgapped").with_audience(OWN_AUDIENCE),
        // It takes no tokens for Azure Resource Manager.
        site("strict"),
    ];
    let rig = Rig::start("clouds", sites).await?;
    rig.azure().update(|state| {
        if let Some(registry) = state.registry_mut("strict.azurecr.io") {
            registry.arm_policy = ArmPolicy::Disabled;
        }
    })?;
    let broker = rig.broker("broker").await?;
    let caller = rig.caller(&broker)?;
    for site in rig.sites() {
        for request in [rig.federated(site), site.broker_owned()] {
            let answer = caller.ask(&request).await?;
            let credential = answer.map_err(|refusal| anyhow::anyhow!("{}: {refusal:?}", site.name))?;
            ensure!(
                rig.is_accepted(site, &credential).await?,
                "{} refuses its token",
                site.registry
            );
        }
        ensure_audience(&rig, site)?;
    }
    Ok(())
}

/// One call to Entra at the site's own authority and one to the metadata service, both for this audience and no other.
fn ensure_audience(rig: &Rig, site: &Site) -> anyhow::Result<()> {
    let audience = site.audience.as_deref().unwrap_or(ACR_AUDIENCE);
    let asked =
        |service, client_id: &str, place: fn(&azure_simulator::LogEntry) -> &[(String, String)], name| {
            let calls = rig
                .azure()
                .calls()
                .of(service, Operation::Token)
                .client_id(client_id);
            let [call] = calls.entries() else {
                anyhow::bail!("{} calls for {}", calls.count(), site.name);
            };
            let found = place(call).iter().find(|(key, _value)| key == name);
            let value = found
                .map(|(_key, value)| value.clone())
                .with_context(|| format!("no {name}"))?;
            Ok((call.host.clone(), value))
        };
    let (host, scope) = asked(
        Service::Entra,
        &site.application.client_id,
        |call| &call.form,
        "scope",
    )?;
    ensure!(host == site.authority, "Entra was asked at {host}");
    ensure!(
        scope == format!("{audience}/.default"),
        "Entra was asked for {scope}"
    );
    let (_host, resource) = asked(
        Service::Imds,
        &site.identity_client_id,
        |call| &call.query,
        "resource",
    )?;
    ensure!(
        resource == audience,
        "the metadata service was asked for {resource}"
    );
    Ok(())
}
