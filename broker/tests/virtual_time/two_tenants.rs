//! Two tenants, an application that is present in both, and the identities of a broker in one of them.

use std::{path::Path, sync::Arc};

use azure_simulator::{ArmPolicy, Issuer, Principal, Registry, Role, ServiceAccountToken, State};
use broker::config::{Application, Clouds, Identity, IdentitySource};

use super::{
    rig::Rig,
    scene::{AUDIENCE, Ask, ISSUER, OTHER_AUDIENCE, TENANT, client, object},
};

const OTHER_TENANT: &str = "22222222-2222-2222-2222-22222222222b";
/// Of the home tenant, and two of the other.
pub(crate) const HOME: &str = "home.azurecr.io";
pub(crate) const ABROAD: [&str; 2] = ["one.azurecr.io", "two.azurecr.io"];
/// The principals: an application that is present in both tenants, and two managed identities.
pub(crate) const APP: usize = 0;
pub(crate) const MACHINE: usize = 1;
pub(crate) const BROKER: usize = 2;
/// The application's object in the other tenant.
pub(crate) const APP_ABROAD: usize = 10;
pub(crate) const BROKER_SUBJECT: &str = "system:serviceaccount:acrpull-system:acrpull-broker";

/// Two tenants. Registries of each refuse tokens for Azure Resource Manager, so that only those for registries pass.
pub(crate) fn azure() -> State {
    let app = Principal::app(TENANT, &client(APP), &object(APP))
        .federated(ISSUER, "system:serviceaccount:team-0:app", AUDIENCE)
        .federated(
            &format!("https://login.microsoftonline.com/{TENANT}/v2.0"),
            &object(MACHINE),
            "api://AzureADTokenExchange",
        );
    let machine = Principal::user_assigned(
        TENANT,
        &client(MACHINE),
        &object(MACHINE),
        "/subscriptions/s/machine",
    );
    let broker = Principal::user_assigned(
        TENANT,
        &client(BROKER),
        &object(BROKER),
        "/subscriptions/s/broker",
    )
    .federated(ISSUER, BROKER_SUBJECT, OTHER_AUDIENCE);
    let mut state = State::default()
        .with_tenant(TENANT)
        .with_tenant(OTHER_TENANT)
        .with_issuer(Issuer::simulated(ISSUER))
        .with_principal(app)
        .with_principal(Principal::of_application(
            TENANT,
            OTHER_TENANT,
            &client(APP),
            &object(APP_ABROAD),
        ))
        .with_vm_identity(machine)
        .with_principal(broker);
    let home = [APP, MACHINE, BROKER].map(object);
    for (host, tenant, objects) in [
        (HOME, TENANT, home.as_slice()),
        (ABROAD[0], OTHER_TENANT, &[object(APP_ABROAD)]),
        (ABROAD[1], OTHER_TENANT, &[object(APP_ABROAD)]),
    ] {
        let mut registry = Registry::new(host, tenant);
        registry.arm_policy = ArmPolicy::Disabled;
        for object in objects {
            registry.grant(object, Role::AcrPull, None);
        }
        state = state.with_registry(registry);
    }
    state
}

pub(crate) fn identity(principal: usize, source: IdentitySource) -> Identity {
    Identity {
        name: format!("identity-{principal}").into(),
        cloud: Arc::clone(Clouds::new(Vec::new()).named("PublicCloud").unwrap()),
        tenant: TENANT.parse().unwrap(),
        client_id: Some(client(principal).parse().unwrap()),
        resource_id: None,
        source,
        application: None,
    }
}

/// The managed identity of the machine, which becomes the application in the other tenant.
pub(crate) fn two_hops() -> Identity {
    Identity {
        application: Some(Application {
            tenant: OTHER_TENANT.parse().unwrap(),
            client: client(APP).parse().unwrap(),
            audience: "api://AzureADTokenExchange".to_owned(),
        }),
        ..identity(MACHINE, IdentitySource::Imds)
    }
}

pub(crate) fn projected(file: &Path) -> Identity {
    let source = IdentitySource::ProjectedToken {
        file: file.to_owned(),
        client: client(BROKER).parse().unwrap(),
    };
    identity(BROKER, source)
}

/// What the kubelet does.
pub(crate) fn write_token(rig: &Rig, file: &Path, seconds: i64) {
    let mut wanted = ServiceAccountToken::new(ISSUER, "acrpull-system", "acrpull-broker", OTHER_AUDIENCE);
    wanted.ttl = seconds;
    let token = rig.azure.service_account_token(&wanted).unwrap();
    std::fs::write(file, token).unwrap();
}

pub(crate) fn abroad(registry: &str) -> Ask {
    Ask {
        tenant: OTHER_TENANT.to_owned(),
        ..Ask::federated(APP, registry)
    }
}
