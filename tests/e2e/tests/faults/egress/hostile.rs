//! What somebody may write into a request to have bytes sent where they should not go.

use e2e::{Rig, Site};
use proto::v1::broker_owned_identity::Selector;
use proto::v1::get_docker_config_request::Identity;
use proto::v1::{CloudReference, FederatedIdentity, GetDockerConfigRequest};

/// Whose hosts these are.
pub(super) const THIEF: &str = "thief.example";

/// Requests that name the thief, or this machine, wherever there is a field for it.
pub(super) fn hostile(rig: &Rig, trap: &str) -> anyhow::Result<Vec<(String, GetDockerConfigRequest)>> {
    let site = rig.site("honest")?;
    let mut requests = Vec::new();
    for registry in registries(site, trap) {
        for mut request in [rig.federated(site), site.broker_owned()] {
            request.registry.clone_from(&registry);
            requests.push((format!("registry {registry:?}"), request));
        }
    }
    for tenant in [
        THIEF.to_owned(),
        format!("https://{THIEF}"),
        format!("//{THIEF}"),
        format!("@{THIEF}"),
        format!("../../{THIEF}"),
        format!("{THIEF}/oauth2/v2.0/token?"),
        format!("{THIEF}#"),
        format!("%2f%2f{THIEF}"),
        format!("\\\\{THIEF}"),
        "..".to_owned(),
    ] {
        let request = with_identity(rig.federated(site), |identity| {
            identity.tenant_id.clone_from(&tenant);
        });
        requests.push((format!("tenant {tenant:?}"), request));
    }
    for cloud in clouds(site, trap) {
        let mut request = rig.federated(site);
        let what = format!("cloud {cloud:?}");
        request.cloud = Some(cloud);
        requests.push((what, request));
    }
    let client = format!("https://{THIEF}");
    let request = with_identity(rig.federated(site), |identity| {
        identity.client_id.clone_from(&client);
    });
    requests.push((format!("client {client:?}"), request));
    for selector in [
        Selector::ClientId(client),
        Selector::ResourceId(format!("{}@{THIEF}", site.identity_resource_id)),
        Selector::ResourceId(format!("{}/../../{THIEF}", site.identity_resource_id)),
    ] {
        let mut request = site.broker_owned();
        let what = format!("identity {selector:?}");
        if let Some(Identity::BrokerOwned(identity)) = &mut request.identity {
            identity.selector = Some(selector);
        }
        requests.push((what, request));
    }
    Ok(requests)
}

/// Requests whose scope names the thief. A repository may have such a name; it is the registry's own matter.
pub(super) fn odd_scopes(site: &Site, rig: &Rig) -> Vec<GetDockerConfigRequest> {
    let scopes = [
        format!("repository:https://{THIEF}/app:pull"),
        format!("repository:@{THIEF}:pull"),
        format!("repository:team/web:pull&service={THIEF}"),
        format!("repository:team/web:pull\r\nhost: {THIEF}"),
    ];
    let requests = scopes.map(|scope| GetDockerConfigRequest {
        scopes: vec![scope],
        ..rig.federated(site)
    });
    requests.into()
}

fn registries(site: &Site, trap: &str) -> Vec<String> {
    let good = &site.registry;
    let mut registries = vec![
        // Of another cloud, and of somebody else in the same domain.
        "public.azurecr.io".to_owned(),
        "thief.azurecr.io".to_owned(),
        format!("{good}.{THIEF}"),
        format!("{THIEF}#{good}"),
        format!("{THIEF}#.azurecr.io"),
        format!("{THIEF}?.azurecr.io"),
        format!("{THIEF}/{good}"),
        format!("{THIEF}\\{good}"),
        format!("{good}@{THIEF}"),
        format!("{THIEF}:443"),
        format!("{good}:444"),
        format!("{good}."),
        format!("https://{THIEF}"),
        format!("//{THIEF}"),
        format!("{good}\r\nhost: {THIEF}"),
        format!("{good} {THIEF}"),
        format!("{THIEF}\0.azurecr.io"),
        "thief%2eexample".to_owned(),
        "xn--hnest-5na.azurecr.io".to_owned(),
        "h\u{43e}nest.azurecr.io".to_owned(),
        trap.to_owned(),
    ];
    let literal = [
        THIEF,
        "localhost",
        "registry.localhost",
        "127.0.0.1",
        "127.1",
        "0x7f000001",
        "2130706433",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
        "",
    ];
    registries.extend(literal.map(str::to_owned));
    registries
}

fn clouds(site: &Site, trap: &str) -> Vec<CloudReference> {
    let authority = &site.authority;
    let mut clouds = vec![named(THIEF), named(&format!("https://{THIEF}"))];
    for host in [
        format!("https://{THIEF}"),
        format!("https://{authority}@{THIEF}"),
        format!("https://{authority}.{THIEF}"),
        format!("https://{authority}:444"),
        format!("https://{THIEF}#{authority}"),
        format!("https://{THIEF}\\@{authority}"),
        format!("http://{authority}"),
        format!("https://{trap}"),
        format!("//{THIEF}"),
    ] {
        clouds.push(CloudReference {
            authority_host: host,
            ..named("AirgappedCloud")
        });
    }
    clouds
}

pub(super) fn named(name: &str) -> CloudReference {
    CloudReference {
        name: name.to_owned(),
        authority_host: String::new(),
    }
}

fn with_identity(
    mut request: GetDockerConfigRequest,
    change: impl FnOnce(&mut FederatedIdentity),
) -> GetDockerConfigRequest {
    if let Some(Identity::Federated(identity)) = &mut request.identity {
        change(identity);
    }
    request
}
