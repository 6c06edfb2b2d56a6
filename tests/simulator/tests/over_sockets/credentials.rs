//! From an identity to a credential that pulls, and where that fails.

use std::time::Duration;

use anyhow::Result;
use azure_simulator::{ArmPolicy, ClockChange, Role, RoleMode, ServiceAccountToken};
use serde_json::Value;

use crate::azure::{
    ACR_RESOURCE, ACR_SCOPE, APP_OBJECT, AUDIENCE, HOST, ISSUER, SCOPE, UAMI, UAMI_RESOURCE, Walk, answer,
    builder, state, token,
};

const ARM_SCOPE: &str = "https://management.core.windows.net//.default";

async fn entra_code(walk: &Walk, wanted: &ServiceAccountToken) -> Result<(u16, Value)> {
    let assertion = walk.azure.service_account_token(wanted)?;
    let (status, body) = answer(walk.entra(&assertion, ACR_SCOPE).await?).await?;
    Ok((
        status,
        body.pointer("/error_codes/0").cloned().unwrap_or_default(),
    ))
}

#[tokio::test]
async fn federated_identity_gets_a_token_that_pulls_its_scope_only() -> Result<()> {
    let walk = Walk::start().await?;
    let access_token = walk.access_token().await?;
    assert_eq!(walk.manifest("team/app", &access_token).await?, 200);
    assert_eq!(walk.manifest("team/other", &access_token).await?, 401);
    Ok(())
}

#[tokio::test]
async fn managed_identity_gets_a_token_by_client_id_and_by_resource_id() -> Result<()> {
    let walk = Walk::start().await?;
    let by_client_id = walk
        .imds(&[("resource", ACR_RESOURCE), ("client_id", UAMI)])
        .await?;
    let by_client_id = token(by_client_id, "access_token").await?;
    let by_resource_id = walk
        .imds(&[("resource", ACR_RESOURCE), ("msi_res_id", UAMI_RESOURCE)])
        .await?;
    assert_eq!(
        token(by_resource_id, "access_token").await?,
        by_client_id,
        "the same identity, from the cache"
    );
    let refresh_token = token(walk.exchange(HOST, &by_client_id).await?, "refresh_token").await?;
    let access_token = token(walk.scoped(&refresh_token, SCOPE).await?, "access_token").await?;
    assert_eq!(walk.manifest("team/app", &access_token).await?, 200);
    Ok(())
}

#[tokio::test]
async fn assertion_with_wrong_issuer_audience_or_subject_gets_its_code() -> Result<()> {
    let other_issuer = azure_simulator::Issuer::simulated("https://oidc.example/other/");
    let walk = Walk::with(builder().state(state().with_issuer(other_issuer))).await?;
    let issuer = ServiceAccountToken::new("https://oidc.example/other/", "web", "app", AUDIENCE);
    assert_eq!(entra_code(&walk, &issuer).await?, (401, 700_211.into()));
    let audience = ServiceAccountToken::new(ISSUER, "web", "app", "api://AKSIdentityBinding");
    assert_eq!(entra_code(&walk, &audience).await?, (401, 700_212.into()));
    let subject = ServiceAccountToken::new(ISSUER, "web", "other", AUDIENCE);
    assert_eq!(entra_code(&walk, &subject).await?, (401, 700_213.into()));
    Ok(())
}

#[tokio::test]
async fn exchange_without_a_role_is_401_in_acrs_words() -> Result<()> {
    let mut nobody = state();
    nobody.registries[0].roles.clear();
    let walk = Walk::with(builder().state(nobody)).await?;
    let entra_token = walk.entra_token().await?;
    let (status, body) = answer(walk.exchange(HOST, &entra_token).await?).await?;
    assert_eq!(
        (status, &body["errors"][0]["code"]),
        (401, &"UNAUTHORIZED".into())
    );
    let message = body["errors"][0]["message"].as_str().unwrap_or_default();
    let start = "authentication required, visit https://aka.ms/acr/authorization for more information. CorrelationId: ";
    assert!(message.starts_with(start), "{message}");
    assert!(body["errors"][0].get("detail").is_none());
    Ok(())
}

#[tokio::test]
async fn exchange_of_an_arm_token_depends_on_the_registrys_policy() -> Result<()> {
    let walk = Walk::start().await?;
    let arm_token = token(walk.entra(&walk.assertion()?, ARM_SCOPE).await?, "access_token").await?;
    assert_eq!(walk.exchange(HOST, &arm_token).await?.status(), 200);
    walk.azure
        .update(|state| state.registries[0].arm_policy = ArmPolicy::Disabled)?;
    assert_eq!(walk.exchange(HOST, &arm_token).await?.status(), 401);
    let acr_token = walk.entra_token().await?;
    assert_eq!(walk.exchange(HOST, &acr_token).await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn late_role_comes_into_force_by_the_clock() -> Result<()> {
    let walk = Walk::start().await?;
    let in_a_minute = jiff::Timestamp::now().checked_add(Duration::from_secs(60))?;
    walk.azure.update(|state| {
        state.registries[0].roles.clear();
        state.registries[0].grant(APP_OBJECT, Role::AcrPull, Some(in_a_minute));
    })?;
    let entra_token = walk.entra_token().await?;
    assert_eq!(walk.exchange(HOST, &entra_token).await?.status(), 401);
    walk.azure.change_clock(ClockChange::advance_s(61))?;
    assert_eq!(walk.exchange(HOST, &entra_token).await?.status(), 200);
    Ok(())
}

#[tokio::test]
async fn mode_switch_kills_credentials_issued_before() -> Result<()> {
    let walk = Walk::start().await?;
    let access_token = walk.access_token().await?;
    assert_eq!(walk.manifest("team/app", &access_token).await?, 200);
    walk.azure.update(|state| {
        state.registries[0].switch_mode(RoleMode::RbacAbac);
        state.registries[0].grant(APP_OBJECT, Role::RepoReader, None);
    })?;
    assert_eq!(walk.manifest("team/app", &access_token).await?, 401);
    let renewed = walk.access_token().await?;
    assert_eq!(walk.manifest("team/app", &renewed).await?, 200);
    Ok(())
}

#[tokio::test]
async fn imds_limits_concurrency() -> Result<()> {
    let walk = Walk::with(builder().state(state().with_latency_ms(150))).await?;
    let one = || walk.imds(&[("resource", ACR_RESOURCE)]);
    let answers = futures::future::try_join_all((0..8).map(|_| one())).await?;
    let throttled = answers.iter().filter(|answer| answer.status() == 429).count();
    assert!(
        (1..=3).contains(&throttled),
        "{throttled} of 8 beyond five at once"
    );
    Ok(())
}

#[tokio::test]
async fn challenge_names_realm_service_and_scope() -> Result<()> {
    let walk = Walk::start().await?;
    let challenge = |path: &'static str| {
        let request = walk.http.get(format!("https://{HOST}{path}"));
        async move {
            let response = request.send().await?;
            let value = response
                .headers()
                .get("www-authenticate")
                .map(|value| value.to_str().map(str::to_owned));
            anyhow::Ok((response.status().as_u16(), value.transpose()?.unwrap_or_default()))
        }
    };
    let bare = r#"Bearer realm="https://demo.azurecr.io/oauth2/token",service="demo.azurecr.io""#;
    assert_eq!(challenge("/v2/").await?, (401, bare.to_owned()));
    let scoped = format!(r#"{bare},scope="repository:team/app:pull""#);
    assert_eq!(challenge("/v2/team/app/manifests/v1").await?, (401, scoped));
    Ok(())
}
