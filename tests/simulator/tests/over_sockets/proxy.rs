//! Ways to the listeners: the egress proxy, and addresses given directly.

use anyhow::Result;
use azure_simulator::{Operation, Service};
use reqwest::Proxy;

use crate::azure::{HOST, Walk};

#[tokio::test]
async fn proxy_leads_to_registries_and_authorities_only() -> Result<()> {
    let walk = Walk::start().await?;
    let status = walk
        .http
        .get(format!("https://{HOST}/v2/"))
        .send()
        .await?
        .status();
    assert_eq!(status, 401);
    let refused = walk.http.get("https://example.com/").send().await;
    assert!(refused.is_err_and(|error| error.is_connect()));
    let tunnels = walk.azure.calls().of(Service::Proxy, Operation::Connect);
    let statuses: Vec<_> = tunnels
        .entries()
        .iter()
        .map(|entry| (entry.host.as_str(), entry.status))
        .collect();
    assert_eq!(statuses, [(HOST, Some(200)), ("example.com", Some(403))]);
    Ok(())
}

#[tokio::test]
async fn proxy_does_not_forward_plain_http() -> Result<()> {
    let walk = Walk::start().await?;
    let proxy = Proxy::http(format!("http://{}", walk.azure.addresses().proxy))?;
    let http = walk.azure.direct_client()?.proxy(proxy).build()?;
    let response = http
        .get("http://169.254.169.254/metadata/identity/oauth2/token")
        .send()
        .await?;
    assert_eq!(response.status(), 405);
    Ok(())
}

#[tokio::test]
async fn registry_is_reached_by_address_and_host() -> Result<()> {
    let walk = Walk::start().await?;
    let acr = walk.azure.addresses().acr;
    let http = walk.azure.direct_client()?.resolve(HOST, acr).build()?;
    let response = http
        .get(format!("https://{HOST}:{}/v2/", acr.port()))
        .send()
        .await?;
    assert_eq!(response.status(), 401);
    let challenge = response.headers()["www-authenticate"].to_str()?.to_owned();
    assert!(
        challenge.contains(&format!("https://{HOST}:{}/oauth2/token", acr.port())),
        "{challenge}"
    );
    let nobody = http.get(format!("https://{acr}/v2/")).send().await;
    assert!(nobody.is_err(), "an address is no registry: {nobody:?}");
    Ok(())
}
