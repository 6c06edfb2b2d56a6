//! Two syncers that share a cluster by label selectors, and a binding that falls out of both.

use e2e::wait_for;
use k8s_openapi::api::core::v1::Secret;
use serde_json::json;

use crate::shared::{EITHER_API, ELSEWHERE, beside_others};
use crate::side::{ACCOUNT, OWN, PATIENCE, SCOPE, in_each_api};

#[test]
fn b17_binding_that_no_selector_matches_any_more_keeps_what_it_has_and_can_be_deleted() -> anyhow::Result<()>
{
    beside_others(async |stack| {
        let arguments = [
            format!("--label-selector={ELSEWHERE}=selector,paused!=yes"),
            // Otherwise it would stand by: the stack's syncer holds the Lease.
            "--leader-elect=false".to_owned(),
        ];
        let syncer = stack
            .syncer()
            .another("acrpull-syncer-selector", &arguments)
            .await?;
        in_each_api(stack, &EITHER_API, &async |_stack, side| {
            let (ours, theirs) = (side.secret_name("ours"), side.secret_name("theirs"));
            let spec = side.spec(ACCOUNT, SCOPE);
            side.create_labelled("ours", &spec, &[(ELSEWHERE, "selector")])
                .await?;
            side.ready("ours").await?;
            // One of the stack's syncer, with which the ServiceAccount is shared.
            side.create("theirs", &spec).await?;
            side.ready("theirs").await?;
            side.team.wait_links(ACCOUNT, &[OWN, &ours, &theirs]).await?;
            let before = [side.secret("ours").await?, side.secret("theirs").await?];

            let paused = json!({"metadata": {"labels": {"paused": "yes"}}});
            side.patch("ours", &paused).await?;
            // By the time that another binding has made the whole way, that change has been seen.
            side.create_labelled("probe", &spec, &[(ELSEWHERE, "selector")])
                .await?;
            side.ready("probe").await?;
            let links = side.team.links(ACCOUNT).await?;
            assert_eq!(links, [OWN, &ours, &theirs, &side.secret_name("probe")]);
            for (name, before) in ["ours", "theirs"].into_iter().zip(before) {
                assert_eq!(side.secret(name).await?.version(), before.version(), "{name}");
            }

            side.delete("ours").await?;
            let secrets = side.team.api::<Secret>();
            wait_for("the binding and its Secret are gone", PATIENCE, async || {
                Ok(side.get("ours").await.is_err() && secrets.get_opt(&ours).await?.is_none())
            })
            .await?;
            // Nobody saw it go; whoever looks at the ServiceAccount next finds a record that nothing stands behind.
            syncer.restart().await?;
            side.team
                .wait_links(ACCOUNT, &[OWN, &theirs, &side.secret_name("probe")])
                .await?;
            assert!(side.secret("theirs").await.is_ok());
            Ok(())
        })
        .await?;
        syncer.stop().await;
        Ok(())
    })
}
