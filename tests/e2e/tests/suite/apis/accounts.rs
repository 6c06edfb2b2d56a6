//! The ServiceAccounts of a binding: one that comes and goes, several bindings on one, several of one binding.

use std::time::Duration;

use e2e::wait_for;
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};
use syncer::binding::ApiVersion;
use syncer::crd::AcrPullBindingStatus;
use tokio::time::Instant;

use super::{ACCOUNT, OWN, SCOPE, Side, in_both_apis};
use crate::shared::{EITHER_API, SHORT_LIFE_S, SHORT_LIVED, beside_others};

/// The promise is a link within a second; the machine of the tests is busy.
const LINKED: Duration = Duration::from_secs(2);
/// A token is renewed before its end.
const SHORT_LIFE: Duration = Duration::from_secs(SHORT_LIFE_S);

#[test]
fn account_that_is_deleted_and_created_again_is_linked_again_and_costs_no_token() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let secret_name = side.secret_name("one");
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let secret = side.secret("one").await?.version();
        let accounts = side.team.api::<ServiceAccount>();
        accounts.delete(ACCOUNT, &DeleteParams::default()).await?;
        side.condition("one", "ServiceAccountLinked", "False").await?;
        let created = Instant::now();
        side.team.create_account(ACCOUNT, &[OWN], &[]).await?;
        side.team.wait_links(ACCOUNT, &[OWN, &secret_name]).await?;
        let took = created.elapsed();
        println!(
            "{}: a new ServiceAccount of the name was linked after {took:?}",
            side.api.as_str()
        );
        assert!(took <= LINKED, "it took {took:?}");
        side.ready("one").await?;
        assert_eq!(side.secret("one").await?.version(), secret);
        Ok(())
    })
}

/// Pods that name the Secret themselves need no ServiceAccount.
#[test]
fn b32_binding_whose_account_is_deleted_is_renewed_without_it() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(SHORT_LIVED.prefix).await?;
        team.create_account(ACCOUNT, &[OWN], &[]).await?;
        let sides = ApiVersion::ALL.map(|api| Side::new(&team, api));
        for side in &sides {
            // A token for each.
            let scope = format!("repository:team/alone-{}:pull", side.api.version());
            side.create("one", &side.spec_for(&SHORT_LIVED, ACCOUNT, &scope))
                .await?;
            side.ready("one").await?;
        }
        let accounts = team.api::<ServiceAccount>();
        accounts.delete(ACCOUNT, &DeleteParams::default()).await?;
        try_join_all(sides.iter().map(async |side| {
            side.condition("one", "ServiceAccountLinked", "False").await?;
            let before = side.secret("one").await?;
            wait_for("the token is renewed", SHORT_LIFE, async || {
                Ok(side.secret("one").await?.docker_config != before.docker_config)
            })
            .await?;
            let after = side.secret("one").await?;
            assert_eq!(after.version().1, before.version().1, "the Secret was replaced");
            let issued = side.condition("one", "CredentialIssued", "True").await?;
            let refreshed = issued.last_token_refresh_time;
            assert!(refreshed.is_some(), "{:?}", issued.conditions);
            side.refused("one", "ServiceAccountLinked", "ServiceAccountNotFound")
                .await
        }))
        .await?;
        assert!(accounts.get_opt(ACCOUNT).await?.is_none());
        Ok(())
    })
}

#[test]
fn account_of_many_bindings_gets_all_links_back_and_keeps_them_when_one_binding_goes() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let names = ["b1", "b2", "b3", "b4", "b5", "b6"];
        let mut links = vec![OWN.to_owned()];
        for name in names {
            side.create(name, &side.spec(ACCOUNT, SCOPE)).await?;
            side.ready(name).await?;
            links.push(side.secret_name(name));
        }
        let links: Vec<&str> = links.iter().map(String::as_str).collect();
        side.team.wait_links(ACCOUNT, &links).await?;

        // All of them at once, as a GitOps tool does it that applies its own list one time.
        let own = json!({"imagePullSecrets": [{"name": OWN}]});
        side.team
            .api::<ServiceAccount>()
            .patch(ACCOUNT, &PatchParams::default(), &Patch::Merge(&own))
            .await?;
        side.team.wait_links(ACCOUNT, &links).await?;
        for name in names {
            side.ready(name).await?;
        }

        side.delete("b1").await?;
        let left: Vec<&str> = links
            .iter()
            .copied()
            .filter(|link| *link != side.secret_name("b1"))
            .collect();
        side.team.wait_links(ACCOUNT, &left).await
    })
}

/// What the condition of the links says.
fn link_message(status: &AcrPullBindingStatus) -> Option<&str> {
    let mut conditions = status.conditions.iter();
    let linked = conditions.find(|condition| condition.type_ == "ServiceAccountLinked")?;
    Some(&linked.message)
}

fn several(side: &Side<'_>, others: &[&str]) -> Value {
    let mut spec = side.spec(ACCOUNT, SCOPE);
    if let Some(fields) = spec.as_object_mut() {
        fields.insert("serviceAccountNames".to_owned(), json!(others));
    }
    spec
}

#[test]
fn accounts_of_one_binding_share_its_secret_and_each_comes_and_goes_alone() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        let side = Side::new(&team, ApiVersion::V1Beta2);
        for name in [ACCOUNT, "web-batch"] {
            team.create_account(name, &[OWN], &[]).await?;
        }
        side.create("one", &several(&side, &["web-late", "web-batch"]))
            .await?;
        for name in [ACCOUNT, "web-batch"] {
            team.wait_links(name, &[OWN, "acr-pull-one"]).await?;
        }
        let waiting = side.condition("one", "ServiceAccountLinked", "False").await?;
        assert_eq!(
            link_message(&waiting),
            Some("ServiceAccount web-late does not exist")
        );
        side.condition("one", "CredentialIssued", "True").await?;

        team.create_account("web-late", &[], &[]).await?;
        let ready = side.ready("one").await?;
        assert_eq!(
            link_message(&ready),
            Some("ServiceAccounts web, web-batch, web-late list acr-pull-one")
        );
        assert_eq!(team.links("web-late").await?, ["acr-pull-one"]);

        side.patch("one", &json!({"spec": {"serviceAccountNames": ["web-late"]}}))
            .await?;
        team.wait_links("web-batch", &[OWN]).await?;
        side.ready("one").await?;
        assert_eq!(team.links(ACCOUNT).await?, [OWN, "acr-pull-one"]);
        assert_eq!(team.links("web-late").await?, ["acr-pull-one"]);

        side.delete("one").await?;
        team.wait_links(ACCOUNT, &[OWN]).await?;
        team.wait_links("web-late", &[]).await
    })
}

#[test]
fn accounts_that_a_grant_does_not_allow_together_get_no_token() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        let side = Side::new(&team, ApiVersion::V1Beta2);
        for name in [ACCOUNT, "stranger"] {
            team.create_account(name, &[], &[]).await?;
        }
        side.create("one", &several(&side, &["stranger"])).await?;
        side.wait("one", "is denied", |status| {
            let mut conditions = status.conditions.iter();
            conditions
                .any(|condition| condition.type_ == "CredentialIssued" && condition.reason == "PolicyDenied")
        })
        .await?;
        side.patch("one", &json!({"spec": {"serviceAccountNames": null}}))
            .await?;
        side.ready("one").await?;
        Ok(())
    })
}

#[test]
fn accounts_of_a_binding_are_names_and_each_is_there_once() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        let side = Side::new(&team, ApiVersion::V1Beta2);
        let many: Vec<_> = (0..64).map(|number| format!("web-{number}")).collect();
        let many: Vec<_> = many.iter().map(String::as_str).collect();
        for (others, complaint) in [
            (&["Web"][..], "must be names of ServiceAccounts"),
            (&[""], "must be names of ServiceAccounts"),
            (&["web-a", "web-a"], "Duplicate value"),
            (&many, "must have at most 63 items"),
        ] {
            let refused = side.create("one", &several(&side, others)).await.unwrap_err();
            let refused = format!("{refused:#}");
            assert!(refused.contains(complaint), "{refused}");
        }
        Ok(())
    })
}
