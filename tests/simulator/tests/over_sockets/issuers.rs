//! Keys of clusters that are not the simulator's own. Another simulator's published keys stand for a
//! cluster's.

use anyhow::Result;
use azure_simulator::{Issuer, ServiceAccountToken};

use crate::azure::{ACR_SCOPE, AUDIENCE, ISSUER, Walk, answer, builder, state};

async fn walk_trusting(issuer: Issuer) -> Result<Walk> {
    let mut state = state();
    state.issuers = vec![issuer];
    Walk::with(builder().state(state)).await
}

#[tokio::test]
async fn fetched_and_inline_keys_verify_a_foreign_clusters_tokens() -> Result<()> {
    let cluster = builder().start().await?;
    let token = cluster.service_account_token(&ServiceAccountToken::new(ISSUER, "web", "app", AUDIENCE))?;

    let url = format!(
        "http://{}/_sim/issuer-jwks?issuer={ISSUER}",
        cluster.addresses().admin
    );
    let fetching = walk_trusting(Issuer::fetched(ISSUER, &url, None, None)).await?;
    assert_eq!(fetching.entra(&token, ACR_SCOPE).await?.status(), 200);

    let document = serde_json::from_str(&cluster.issuer_jwks_json(ISSUER)?)?;
    let inline = walk_trusting(Issuer::inline(ISSUER, document)).await?;
    assert_eq!(inline.entra(&token, ACR_SCOPE).await?.status(), 200);

    let foreign = walk_trusting(Issuer::simulated(ISSUER)).await?;
    let (status, body) = answer(foreign.entra(&token, ACR_SCOPE).await?).await?;
    assert_eq!(
        (status, &body["error_codes"][0]),
        (401, &700_027.into()),
        "signed by another cluster's key"
    );
    Ok(())
}

#[tokio::test]
async fn keys_that_cannot_be_fetched_are_50166() -> Result<()> {
    let cluster = builder().start().await?;
    let token = cluster.service_account_token(&ServiceAccountToken::new(ISSUER, "web", "app", AUDIENCE))?;
    let url = format!("http://{}/nothing-here", cluster.addresses().admin);
    let walk = walk_trusting(Issuer::fetched(ISSUER, &url, None, None)).await?;
    let (status, body) = answer(walk.entra(&token, ACR_SCOPE).await?).await?;
    assert_eq!((status, &body["error_codes"][0]), (400, &50166.into()));
    Ok(())
}
