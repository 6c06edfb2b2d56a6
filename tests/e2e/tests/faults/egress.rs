//! Guarantee E1: bytes leave for the hosts of the configuration, and for no other, whatever a request says and whatever
//! Azure answers. Every destination of a real broker is written down, and every wrong one is a trap.

mod hostile;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use azure_simulator::{Action, Operation, Service};
use e2e::rig::{BuiltInCloud, SiteOptions, Trap};
use e2e::{Broker, Rig, Site};
use proto::v1::GetDockerConfigRequest;
use serde_json::{Value, json};

use crate::row::Hop;
use hostile::{THIEF, hostile, named, odd_scopes};

/// A registry that the operator allows and nobody serves: the control that a wrong destination would be seen.
const LURE: &str = "lure.thief.example";
/// More than the broker works on a request.
const TIMEOUT: Duration = Duration::from_secs(35);

/// Top-level domains of names that somebody may smuggle into a request.
const CAUGHT: [&str; 8] = ["io", "us", "cn", "com", "net", "org", "example", "invalid"];

/// Sites whose Azure sends its callers to the thief.
const MISLEADING: [(&str, Hop); 5] = [
    ("entra-redirects", Hop::Entra),
    ("exchange-redirects", Hop::Exchange),
    ("token-redirects", Hop::Token),
    ("exchange-challenges", Hop::Exchange),
    ("token-challenges", Hop::Token),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn e1_bytes_leave_for_the_configured_hosts_and_for_no_other() -> anyhow::Result<()> {
    let good = [
        SiteOptions::from("honest"),
        SiteOptions::from("public").in_cloud(BuiltInCloud::Public),
    ];
    let misleading = MISLEADING.map(|(name, _hop)| SiteOptions::from(name));
    let rig = Rig::start("egress", good.into_iter().chain(misleading)).await?;
    mislead(&rig)?;
    let trap = Trap::start().await?;
    let behind_proxy = behind_proxy(&rig).await?;
    let among_traps = among_traps(&rig, &trap).await?;
    for broker in [&behind_proxy, &among_traps] {
        attack(&rig, broker, &trap)
            .await
            .inspect_err(|_error| rig.keep_logs())?;
    }

    let mut configured: BTreeSet<String> = rig
        .sites()
        .iter()
        .flat_map(|site| [site.authority.clone(), site.registry.clone()])
        .collect();
    // Without a token of Entra ID there is nothing to ask a registry for.
    configured.remove(&rig.site("entra-redirects")?.registry);
    assert_eq!(destinations(&rig), configured);
    assert_eq!(trap.connections(), 0, "somebody came into the trap");

    // The operator may send tokens anywhere; then it is seen.
    for broker in [&behind_proxy, &among_traps] {
        let honest = rig.site("honest")?;
        let mut request = rig.federated(honest);
        request.registry = LURE.to_owned();
        request.cloud = Some(named(LURE));
        let refusal = rig.caller(broker)?.ask(&request).await?;
        ensure!(refusal.is_err(), "nobody serves {LURE}");
    }
    assert!(destinations(&rig).contains(LURE), "the proxy writes nothing down");
    assert!(trap.connections() > 0, "the trap does not work");
    Ok(())
}

/// A broker whose only way to anything but the metadata service is the simulator's proxy, which writes down each
/// destination.
async fn behind_proxy(rig: &Rig) -> anyhow::Result<Broker> {
    let proxy = format!("http://{}", rig.azure().addresses().proxy);
    rig.broker_with("behind-proxy", &[("HTTPS_PROXY", &proxy)], |config| {
        narrow(rig, config, &BTreeMap::new());
    })
    .await
}

/// A broker that reaches the sites directly, and for which every other name means the trap.
async fn among_traps(rig: &Rig, trap: &Trap) -> anyhow::Result<Broker> {
    let azure = rig.azure().addresses();
    let caught = CAUGHT.map(|domain| (format!("*.{domain}"), trap.address()));
    let sites = rig.sites().iter().flat_map(|site| {
        [
            (site.authority.clone(), azure.entra),
            (site.registry.clone(), azure.acr),
        ]
    });
    let overrides = caught
        .into_iter()
        .chain([("localhost".to_owned(), trap.address())])
        .chain(sites)
        .collect();
    rig.broker_with("among-traps", &[], |config| narrow(rig, config, &overrides))
        .await
}

/// Lists each registry by its exact host, as an operator does who trusts no domain, and the lure.
fn narrow(rig: &Rig, config: &mut Value, overrides: &BTreeMap<String, SocketAddr>) {
    let cloud = |name: &str, site: &Site, registry: &str| {
        json!({
            "name": name,
            "authority": format!("https://{}", site.authority),
            "registries": [registry],
        })
    };
    let sites = rig.sites().iter();
    let lure = rig.sites().first().map(|site| cloud(LURE, site, LURE));
    let clouds = sites.map(|site| cloud(&site.cloud, site, &site.registry));
    config["clouds"] = clouds.chain(lure).collect();
    if let Some(old) = config.pointer_mut("/egress/hostOverrides") {
        *old = json!(overrides);
    }
}

/// Every host that a tunnel was asked for.
fn destinations(rig: &Rig) -> BTreeSet<String> {
    let tunnels = rig.azure().calls().of(Service::Proxy, Operation::Connect);
    let hosts = tunnels.entries().iter().map(|entry| entry.host.clone());
    hosts.collect()
}

/// Redirects, and challenges whose realm is the thief's.
fn mislead(rig: &Rig) -> anyhow::Result<()> {
    for (name, hop) in MISLEADING {
        let action = if name.ends_with("redirects") {
            Action::Redirect {
                to: format!("https://{THIEF}/oauth2/token"),
            }
        } else {
            let realm = format!("Bearer realm=\"https://{THIEF}/oauth2/token\",service=\"{THIEF}\"");
            serde_json::from_value(
                json!({"type": "status", "code": 401, "headers": {"www-authenticate": realm}}),
            )?
        };
        rig.azure().add_fault(hop.fault(rig.site(name)?, action))?;
    }
    Ok(())
}

/// Asks for everything that it must not have over both wires, and in the end for what it may.
async fn attack(rig: &Rig, broker: &Broker, trap: &Trap) -> anyhow::Result<()> {
    let (caller, web) = (rig.caller(broker)?, Web::to(rig, broker)?);
    let hostile = hostile(rig, &trap.address().to_string())?;
    let misled = MISLEADING.map(|(name, _hop)| Ok((name.to_owned(), rig.federated(rig.site(name)?))));
    let misled = misled.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    for (what, request) in hostile.into_iter().chain(misled) {
        let answer = caller.ask(&request).await?;
        ensure!(answer.is_err(), "a credential for {what}");
        let status = web.ask(&request).await?;
        ensure!((400..600).contains(&status), "HTTP {status} for {what}");
    }
    for request in odd_scopes(rig.site("honest")?, rig) {
        drop((caller.ask(&request).await?, web.ask(&request).await?));
    }
    for name in ["honest", "public"] {
        let site = rig.site(name)?;
        for request in [rig.federated(site), site.broker_owned()] {
            let answer = caller.ask(&request).await?;
            answer.map_err(|refusal| anyhow::anyhow!("{name}: {refusal:?}"))?;
            ensure!(web.ask(&request).await? == 200, "{name} over HTTP");
        }
    }
    Ok(())
}

/// The syncer, over HTTP JSON.
struct Web {
    client: reqwest::Client,
    url: String,
    bearer: String,
}

impl Web {
    fn to(rig: &Rig, broker: &Broker) -> anyhow::Result<Self> {
        let ca = std::fs::read(rig.ca_file()).context("the brokers' CA")?;
        let client = reqwest::Client::builder()
            .tls_certs_only([reqwest::Certificate::from_pem(&ca)?])
            .timeout(TIMEOUT)
            .no_proxy()
            .build()?;
        Ok(Self {
            client,
            url: format!("https://{}/v1/docker-config", broker.address()),
            bearer: rig.syncer_token()?,
        })
    }

    async fn ask(&self, request: &GetDockerConfigRequest) -> anyhow::Result<u16> {
        let post = self.client.post(&self.url).bearer_auth(&self.bearer);
        Ok(post.json(request).send().await?.status().as_u16())
    }
}
