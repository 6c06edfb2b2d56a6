//! What is remembered: every call, no secret; and the list of secrets to search for.

use anyhow::Result;
use azure_simulator::{Action, AdminClient, ClockChange, Fault, Operation, Service, ServiceAccountToken};

use crate::azure::{APP, AUDIENCE, HOST, ISSUER, Walk};

#[tokio::test]
async fn log_shows_each_decision_and_no_secret() -> Result<()> {
    let walk = Walk::start().await?;
    let access_token = walk.access_token().await?;
    walk.manifest("team/app", &access_token).await?;

    let issued = walk.azure.issued();
    let kinds: Vec<&str> = issued.iter().map(|secret| secret.kind.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "service_account_token",
            "entra_access_token",
            "acr_refresh_token",
            "acr_access_token"
        ]
    );
    assert!(issued.iter().any(|secret| secret.secret == access_token));
    let log = serde_json::to_string(&walk.azure.log(0))?;
    for secret in &issued {
        assert!(!log.contains(&secret.secret), "{} is in the log", secret.kind);
    }

    let calls = walk.azure.calls();
    let entra = calls.clone().of(Service::Entra, Operation::Token);
    let entry = &entra.entries()[0];
    assert_eq!((entry.status, entry.client_id.as_deref()), (Some(200), Some(APP)));
    assert_eq!(entry.trace.last().map(String::as_str), Some("audience ok"));
    let seen = &entry.secrets[0];
    assert_eq!(seen.place, "client_assertion");
    assert_eq!(
        seen.claims.as_ref().and_then(|claims| claims["sub"].as_str()),
        Some("system:serviceaccount:web:app")
    );
    let exchange = calls
        .of(Service::Acr, Operation::Exchange)
        .client_id(APP)
        .host(HOST);
    assert_eq!((exchange.count(), exchange.with_secret().count()), (1, 1));
    Ok(())
}

#[tokio::test]
async fn counters_tell_calls_apart() -> Result<()> {
    let walk = Walk::start().await?;
    walk.azure.add_fault(
        Fault::new(Action::throttle_s(1))
            .on(Service::Acr, Operation::Exchange)
            .times(1),
    )?;
    let entra_token = walk.entra_token().await?;
    for _ in 0..3 {
        walk.exchange(HOST, &entra_token).await?;
    }
    let counters = walk.azure.counters();
    assert_eq!(counters.calls(Service::Acr, Operation::Exchange), 3);
    assert_eq!(
        counters.calls_with_status(Service::Acr, Operation::Exchange, 429),
        1
    );
    assert_eq!(counters.calls(Service::Entra, Operation::Token), 1);
    assert_eq!(counters.max_in_flight(Service::Acr, Operation::Exchange), 1);
    assert!(counters.services[&Service::Acr].bytes_in > 0);
    Ok(())
}

#[tokio::test]
async fn admin_api_does_what_the_handle_does() -> Result<()> {
    let walk = Walk::start().await?;
    let admin = AdminClient::new(walk.azure.addresses().admin)?;
    assert_eq!(admin.state().await?, *walk.azure.state());
    assert_eq!(admin.ca_pem().await?, walk.azure.ca_pem());
    assert_eq!(admin.acr_jwks().await?, walk.azure.jwks_json());
    assert_eq!(
        admin.issuer_jwks(ISSUER).await?,
        walk.azure.issuer_jwks_json(ISSUER)?
    );

    let wanted = ServiceAccountToken::new(ISSUER, "web", "app", AUDIENCE);
    let assertion = admin.service_account_token(&wanted).await?;
    assert_eq!(
        walk.entra(&assertion, crate::azure::ACR_SCOPE).await?.status(),
        200
    );

    let id = admin
        .add_fault(&Fault::new(Action::status(500)).on_service(Service::Entra))
        .await?;
    assert_eq!(
        walk.entra(&assertion, crate::azure::ACR_SCOPE).await?.status(),
        500
    );
    let hit = admin
        .calls()
        .await?
        .of(Service::Entra, Operation::Token)
        .status(500);
    assert_eq!(hit.entries()[0].fault.as_ref(), Some(&id));
    admin.clear_faults().await?;
    assert_eq!(admin.change_clock(&ClockChange::advance_s(5)).await?.offset_s, 5);
    admin.update(|state| state.registries.clear()).await?;
    assert!(walk.azure.state().registries.is_empty());
    assert_eq!(admin.counters().await?.calls(Service::Entra, Operation::Token), 2);
    assert!(!admin.issued().await?.is_empty());

    admin.reset().await?;
    assert_eq!(walk.azure.state().registries.len(), 1);
    assert!(admin.calls().await?.is_empty() && admin.issued().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn admin_api_refuses_what_makes_no_sense() -> Result<()> {
    let walk = Walk::start().await?;
    let admin = AdminClient::new(walk.azure.addresses().admin)?;
    let error = admin
        .update(|state| state.tenants.clear())
        .await
        .expect_err("registries without a tenant");
    assert!(error.to_string().contains("is not there"), "{error}");
    assert!(!walk.azure.state().tenants.is_empty());
    let unknown = ServiceAccountToken::new("https://nobody/", "a", "b", "c");
    let error = admin
        .service_account_token(&unknown)
        .await
        .expect_err("an issuer nobody knows");
    assert!(error.to_string().contains("does not hold the keys"), "{error}");
    Ok(())
}
