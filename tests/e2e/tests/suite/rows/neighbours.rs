//! What belongs to others: their place in a ServiceAccount's list, and their Secrets.

use e2e::wait_for;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::json;
use syncer::binding::ApiVersion;

use crate::shared::{EITHER_API, alone};
use crate::side::{ACCOUNT, PATIENCE, SCOPE, Side, in_both_apis};

#[test]
fn b16_order_of_somebodys_pull_secrets_is_kept() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        // A kubelet tries them in this order.
        let own = ["z-user", "a-user", "m-user"];
        side.team.create_account("web-order", &own, &[]).await?;
        for name in ["b", "a"] {
            side.create(name, &side.spec("web-order", SCOPE)).await?;
            side.ready(name).await?;
        }
        let ours = ["b", "a"].map(|name| side.secret_name(name));
        let [first, second] = &ours;
        let with_ours = ["z-user", "a-user", "m-user", first, second];
        side.team.wait_links("web-order", &with_ours).await?;
        side.delete("b").await?;
        side.team
            .wait_links("web-order", &["z-user", "a-user", "m-user", second])
            .await?;
        side.delete("a").await?;
        side.team.wait_links("web-order", &own).await
    })
}

#[test]
fn b28_start_beside_unlabelled_secrets_of_other_namespaces_ends_nothing_and_touches_none()
-> anyhow::Result<()> {
    alone(async |stack| {
        let (team, elsewhere) = (
            stack.team(EITHER_API.prefix).await?,
            stack.team("unrelated").await?,
        );
        team.create_account(ACCOUNT, &[], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        // Names that a binding of another namespace has a right to, without a label: for the peer a reason to clean up
        // and exit, at each start.
        let mut before = Vec::new();
        for side in &sides {
            let secret = json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": side.secret_name("one")},
                "type": "kubernetes.io/dockerconfigjson",
                "stringData": {".dockerconfigjson": r#"{"auths":{}}"#},
            });
            let secret: Secret = serde_json::from_value(secret)?;
            let secrets = elsewhere.api::<Secret>();
            before.push(secrets.create(&PostParams::default(), &secret).await?);
            side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
            side.ready("one").await?;
        }
        stack.syncer().restart().await?;
        let process = stack.syncer().pid();
        for side in &sides {
            side.create("two", &side.spec(ACCOUNT, SCOPE)).await?;
            side.ready("two").await?;
        }
        wait_for("both passes are over", PATIENCE, async || {
            Ok(team.links(ACCOUNT).await?.len() == 4)
        })
        .await?;
        assert!(stack.syncer().metrics().await.is_ok(), "the process has ended");
        assert_eq!(stack.syncer().pid(), process);
        for (side, before) in sides.iter().zip(before) {
            let after = elsewhere.api::<Secret>().get(&side.secret_name("one")).await?;
            assert_eq!(after, before, "it was touched");
        }
        Ok(())
    })
}
