//! The life of a binding: made, changed, deleted.

use std::time::Duration;

use anyhow::Context as _;
use e2e::{IMAGE_FILE, wait_for};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::Resource as _;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use syncer::binding::{ApiVersion, Binding};
use syncer::inputs::base36_sha224;
use tokio::time::Instant;

use super::{ACCOUNT, OWN, SCOPE, in_both_apis};
use crate::shared::{EITHER_API, V1BETA1_DEFAULT, beside_others};

const PATIENCE: Duration = Duration::from_secs(15);
/// The promise: a new token within this.
const SOON: Duration = Duration::from_secs(5);
/// The promise is a link within a second; the machine of the tests is busy.
const LINKED: Duration = Duration::from_secs(2);

#[test]
fn binding_of_each_api_is_linked_and_ready_and_its_secret_pulls() -> anyhow::Result<()> {
    in_both_apis(async |stack, side| {
        let (azure, images, registry) = (stack.azure(), stack.images(), EITHER_API.registry);
        images.push(azure, registry, "team/web", "v1").await?;
        let binding = side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        let status = side.ready("one").await?;
        let secret_name = side.secret_name("one");
        assert_eq!(status.pull_secret_name.as_deref(), Some(secret_name.as_str()));
        assert_eq!(status.granted_scope.as_deref(), Some(SCOPE));
        assert!(status.token_expiration_time.is_some() && status.next_refresh_time.is_some());
        assert_eq!(side.team.links(ACCOUNT).await?, [OWN, &secret_name]);

        let secret = side.secret("one").await?;
        let owners = secret
            .object
            .metadata
            .owner_references
            .as_deref()
            .unwrap_or_default();
        let [owner] = owners else {
            panic!("the owners are {owners:?}");
        };
        assert_eq!(owner.api_version, side.api.as_str());
        assert_eq!(owner.kind, Binding::kind(&side.api));
        assert_eq!(Some(&owner.uid), binding.metadata.uid.as_ref());
        let labels = secret.object.metadata.labels.as_ref();
        assert_eq!(
            labels.and_then(|labels| labels.get("acr.microsoft.com/binding")),
            Some(&"one".to_owned())
        );

        let files = images
            .pull(azure, &format!("{registry}/team/web:v1"), &secret.docker_config)
            .await?;
        let files = String::from_utf8_lossy(&files);
        assert!(files.contains(IMAGE_FILE.1), "{files}");
        Ok(())
    })
}

#[test]
fn binding_of_each_api_carries_the_peers_hash_so_that_going_back_mints_nothing() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let (registry, id) = (EITHER_API.registry, EITHER_API.identity().client_id);
        let inputs = match side.api {
            ApiVersion::V1Beta2 => format!("{ACCOUNT}managedIdentity{id}PublicCloud{registry}{SCOPE}"),
            // The syncer's default counts although the client ID is there, and is what is used.
            ApiVersion::V1Beta1 => {
                let by_default = V1BETA1_DEFAULT.identity().resource_id;
                format!("{id}{by_default}{registry}{SCOPE}")
            }
        };
        let secret = side.secret("one").await?;
        assert_eq!(
            secret.annotation("acr.microsoft.com/token.inputs"),
            Some(base36_sha224(inputs.as_bytes()).as_str())
        );
        for time in ["expiry", "refresh"] {
            let time = secret.annotation(&format!("acr.microsoft.com/token.{time}"));
            assert!(time.is_some_and(|time| time.ends_with('Z')), "{time:?}");
        }
        Ok(())
    })
}

#[test]
fn b10_binding_with_another_scope_gets_another_token_in_place() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        const OTHER: &str = "repository:team/other:pull";
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let before = side.secret("one").await?;
        let changed = Instant::now();
        side.patch("one", &json!({"spec": side.spec(ACCOUNT, OTHER)}))
            .await?;
        side.wait("one", "was granted the other scope", |status| {
            status.granted_scope.as_deref() == Some(OTHER)
        })
        .await?;
        let took = changed.elapsed();
        println!("{}: another scope {took:?} after the change", side.api.as_str());
        assert!(took <= SOON, "it took {took:?}");
        side.ready("one").await?;
        let after = side.secret("one").await?;
        assert_ne!(after.docker_config, before.docker_config);
        assert_eq!(after.version().1, before.version().1, "the Secret was replaced");
        Ok(())
    })
}

#[test]
fn b11_binding_that_names_another_account_moves_its_link() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        side.team.create_account("web-next", &[OWN], &[]).await?;
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        side.patch("one", &json!({"spec": {"serviceAccountName": "web-next"}}))
            .await?;
        side.team
            .wait_links("web-next", &[OWN, &side.secret_name("one")])
            .await?;
        side.team.wait_links(ACCOUNT, &[OWN]).await
    })
}

#[test]
fn b12_binding_that_is_deleted_takes_its_link_and_its_secret_along() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let secret_name = side.secret_name("one");
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        side.delete("one").await?;
        side.team.wait_links(ACCOUNT, &[OWN]).await?;
        let secrets = side.team.api::<Secret>();
        wait_for("the Secret is gone", PATIENCE, async || {
            Ok(secrets.get_opt(&secret_name).await?.is_none())
        })
        .await
    })
}

#[test]
fn binding_of_each_api_gets_back_a_link_that_somebody_removed() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        let secret_name = side.secret_name("one");
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let others = json!({"imagePullSecrets": [{"name": OWN}, {"name": "another"}]});
        side.team
            .api::<ServiceAccount>()
            .patch(ACCOUNT, &PatchParams::default(), &Patch::Merge(&others))
            .await?;
        side.team
            .wait_links(ACCOUNT, &[OWN, "another", &secret_name])
            .await
    })
}

#[test]
fn b32_binding_without_its_account_keeps_its_secret_and_waits_with_the_link_alone() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        side.create("one", &side.spec("web-late", SCOPE)).await?;
        side.condition("one", "ServiceAccountLinked", "False").await?;
        side.condition("one", "CredentialIssued", "True").await?;
        side.secret("one").await?;
        let created = Instant::now();
        side.team.create_account("web-late", &[], &[]).await?;
        side.team
            .wait_links("web-late", &[&side.secret_name("one")])
            .await?;
        let took = created.elapsed();
        println!(
            "{}: a late ServiceAccount was linked after {took:?}",
            side.api.as_str()
        );
        assert!(took <= LINKED, "it took {took:?}");
        side.ready("one").await?;
        Ok(())
    })
}

#[test]
fn b19_columns_of_each_api_read_right() -> anyhow::Result<()> {
    in_both_apis(async |stack, side| {
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let kind = format!("acrpullbindings.{}", side.api.group());
        let namespace = side.team.namespace();
        let table = stack
            .plane()
            .kubectl(&["get", &kind, "-n", namespace, "-o", "wide"])
            .await?;
        assert!(!table.contains("<invalid>"), "{table}");
        for word in [
            "one",
            EITHER_API.registry,
            ACCOUNT,
            "True",
            "CredentialCurrent",
            SCOPE,
        ] {
            assert!(table.contains(word), "{word}: {table}");
        }
        for column in ["EXPIRES", "NEXT REFRESH"] {
            let time: Timestamp = cell(&table, column)
                .with_context(|| format!("no {column}: {table}"))?
                .parse()
                .with_context(|| format!("{column} is no time: {table}"))?;
            assert!(time > Timestamp::now(), "{column}: {table}");
        }
        for column in ["READY", "REASON", "EXPIRES", "AGE", "NEXT REFRESH"] {
            assert!(table.contains(column), "{column}: {table}");
        }
        Ok(())
    })
}

/// What a table says below a heading, in its one row. Columns are aligned, and as far apart as three spaces.
fn cell<'a>(table: &'a str, column: &str) -> Option<&'a str> {
    let (headings, rows) = table.split_once('\n')?;
    let (_left, right) = rows.split_at_checked(headings.find(column)?)?;
    right.split_whitespace().next()
}

#[test]
fn category_lists_bindings_of_both_apis() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team(EITHER_API.prefix).await?;
        for api in ApiVersion::ALL {
            let side = super::Side::new(&team, api);
            let name = format!("of-{}", api.version());
            side.create(&name, &side.spec(ACCOUNT, SCOPE)).await?;
        }
        let table = stack
            .plane()
            .kubectl(&["get", "acrpull", "-n", team.namespace()])
            .await?;
        assert!(
            table.contains("of-v1beta2") && table.contains("of-v1beta1"),
            "{table}"
        );
        Ok(())
    })
}
