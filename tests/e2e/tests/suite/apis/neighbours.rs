//! Bindings of both APIs beside each other, with one name, on one ServiceAccount.

use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;
use syncer::binding::ApiVersion;

use super::{ACCOUNT, OWN, SCOPE, Side};
use crate::shared::{EITHER_API, beside_others};

/// The peer's two controllers undid each other's work within this.
const WHILE: Duration = Duration::from_millis(900);

#[test]
fn b5_bindings_of_both_apis_with_one_name_live_side_by_side() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        // The older one first: its entry is there when that of the newer one comes, and stays behind it.
        let older = Side::new(&team, ApiVersion::V1Beta1);
        older.create("one", &older.spec(ACCOUNT, SCOPE)).await?;
        older.ready("one").await?;
        let newer = Side::new(&team, ApiVersion::V1Beta2);
        newer.create("one", &newer.spec(ACCOUNT, SCOPE)).await?;
        newer.ready("one").await?;
        let both = [OWN, "acr-pull-one", "one-msi-acrpull-secret"];
        team.wait_links(ACCOUNT, &both).await?;

        let versions = async || {
            let secrets = [older.secret("one").await?, newer.secret("one").await?];
            anyhow::Ok(secrets.map(|secret| secret.version()))
        };
        let before = versions().await?;
        tokio::time::sleep(WHILE).await;
        assert_eq!(versions().await?, before, "one of them was written or replaced");
        assert_eq!(team.links(ACCOUNT).await?, both);

        newer.delete("one").await?;
        team.wait_links(ACCOUNT, &[OWN, "one-msi-acrpull-secret"]).await?;
        let [left, _gone] = before;
        assert_eq!(
            older.secret("one").await?.version(),
            left,
            "it went with its namesake"
        );
        older.ready("one").await?;
        Ok(())
    })
}

#[test]
fn b7_binding_with_a_name_at_each_limit_works_in_both_apis() -> anyhow::Result<()> {
    super::in_both_apis(async |_stack, side| {
        // A label's value, what the peer hashes from on, and the longest name of all.
        for length in [63, 64, 233, 234, 253] {
            let name = "a".repeat(length);
            side.create(&name, &side.spec(ACCOUNT, SCOPE)).await?;
            side.ready(&name).await?;
            let secret = side.team.api::<Secret>().get(&side.secret_name(&name)).await?;
            assert!(secret.name_any().len() <= 253);
        }
        Ok(())
    })
}
