//! A binding of `v1beta1` that leaves everything out: the syncer's defaults, ServiceAccount `default`, the whole registry.

use e2e::IMAGE_FILE;
use serde_json::{Value, json};
use syncer::binding::ApiVersion;

use super::Side;
use crate::shared::{V1BETA1_DEFAULT, beside_others};

#[test]
fn v1beta1_binding_that_says_nothing_pulls_whatever_the_default_identity_may() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let (azure, images, registry) = (stack.azure(), stack.images(), V1BETA1_DEFAULT.registry);
        for repository in ["team/web", "another/app"] {
            images.push(azure, registry, repository, "v1").await?;
        }
        let team = stack.team(V1BETA1_DEFAULT.prefix).await?;
        let side = Side::new(&team, ApiVersion::V1Beta1);
        // As a person writes it, and as the peer writes it back.
        let blank = json!({
            "acrServer": "", "scope": "", "managedIdentityClientID": "", "managedIdentityResourceID": "",
        });
        for (name, spec) in [("short", json!({"acrServer": ""})), ("blank", blank)] {
            side.create(name, &spec).await?;
            let status = side.ready(name).await?;
            assert_eq!(status.granted_scope, None);
            let links = team.links("default").await?;
            assert!(links.contains(&format!("{name}-msi-acrpull-secret")), "{links:?}");
            let docker_config = side.secret(name).await?.docker_config;
            for repository in ["team/web", "another/app"] {
                let reference = format!("{registry}/{repository}:v1");
                let files = images.pull(azure, &reference, &docker_config).await?;
                let files = String::from_utf8_lossy(&files);
                assert!(files.contains(IMAGE_FILE.1), "{reference}: {files}");
            }
        }
        Ok(())
    })
}

#[test]
fn v1beta1_binding_without_a_scope_is_denied_where_no_grant_is_for_a_whole_registry() -> anyhow::Result<()> {
    super::in_both_apis(async |_stack, side| {
        let mut spec = side.spec(super::ACCOUNT, super::SCOPE);
        if side.api == ApiVersion::V1Beta2 {
            // There it is no way to ask for everything: the schema refuses it.
            spec["acr"]["scope"] = json!("");
            assert!(side.create("one", &spec).await.is_err());
            return Ok(());
        }
        spec["scope"] = Value::Null;
        side.create("one", &spec).await?;
        let status = side.condition("one", "CredentialIssued", "False").await?;
        let failure = status.last_failure.map(|failure| failure.reason);
        assert_eq!(failure.as_deref(), Some("PolicyDenied"));
        Ok(())
    })
}
