//! Registries: one that takes no tokens for Azure Resource Manager, one that grants a part, and two for one Pod.

use azure_simulator::{Condition, InsufficientScope, Operation, Role, RoleAssignment, RoleMode, Service};
use e2e::{IMAGE_FILE, PullSecret};
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use serde_json::{Map, Value, json};

use crate::shared::life_events::PARTLY;
use crate::shared::{EITHER_API, EITHER_API_NEXT, NO_ARM, beside_others};
use crate::side::{ACCOUNT, OWN, SCOPE, in_each_api};

#[test]
fn b8_registry_that_takes_no_token_for_resource_manager_works_in_both_apis() -> anyhow::Result<()> {
    beside_others(async |stack| {
        in_each_api(stack, &NO_ARM, &async |stack, side| {
            side.create("one", &side.spec_for(&NO_ARM, ACCOUNT, SCOPE))
                .await?;
            side.ready("one").await?;
            assert!(side.secret("one").await?.login(NO_ARM.registry).is_ok());
            // There was no attempt with the other audience.
            let calls = stack.azure().calls().await?;
            let calls = calls.of(Service::Acr, Operation::Exchange).host(NO_ARM.registry);
            assert!(calls.entries().iter().all(|call| call.status == Some(200)));
            assert_eq!(calls.count(), 1, "the second binding needs no other");
            Ok(())
        })
        .await
    })
}

#[test]
fn b20_binding_that_is_granted_less_than_it_asks_for_says_so() -> anyhow::Result<()> {
    beside_others(async |stack| {
        stack
            .azure()
            .update(|state| {
                let registry = state.registry_mut(PARTLY.registry).unwrap();
                registry.mode = RoleMode::RbacAbac;
                registry.switches.insufficient_scope = InsufficientScope::Reduced200;
                registry.roles = vec![RoleAssignment {
                    object_id: PARTLY.identity().object_id,
                    role: Role::RepoReader,
                    condition: Some(Condition::Equals("team/one".to_owned())),
                    effective_at: None,
                    revoked_at: None,
                }];
            })
            .await?;
        in_each_api(stack, &PARTLY, &async |_stack, side| {
            let both = "repository:team/one:pull repository:team/two:pull";
            side.create("one", &side.spec_for(&PARTLY, ACCOUNT, both)).await?;
            let status = side.ready("one").await?;
            assert_eq!(status.granted_scope.as_deref(), Some("repository:team/one:pull"));
            for kind in ["Ready", "CredentialIssued"] {
                let condition = status.conditions.iter().find(|condition| condition.type_ == kind);
                let condition = condition.expect("a ready binding has it");
                assert_eq!(condition.reason, "PartlyGranted");
                assert_eq!(
                    condition.message,
                    "the registry did not grant repository:team/two:pull"
                );
            }
            assert!(side.secret("one").await?.login(PARTLY.registry).is_ok());
            let told = async || {
                let events = side.team.api::<Event>().list(&ListParams::default()).await?;
                let mut events = events.items.iter();
                anyhow::Ok(events.any(|event| event.reason.as_deref() == Some("PartlyGranted")))
            };
            e2e::wait_for("an event tells it", crate::side::PATIENCE, told).await
        })
        .await
    })
}

#[test]
fn b33_account_with_bindings_for_two_registries_pulls_from_both() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let (azure, images) = (stack.azure(), stack.images());
        for granted in [EITHER_API, EITHER_API_NEXT] {
            images.push(azure, granted.registry, "team/web", "v1").await?;
        }
        in_each_api(stack, &EITHER_API_NEXT, &async |_stack, side| {
            for (name, granted) in [("one", EITHER_API), ("two", EITHER_API_NEXT)] {
                side.create(name, &side.spec_for(&granted, ACCOUNT, SCOPE))
                    .await?;
            }
            side.ready("one").await?;
            side.ready("two").await?;
            let mut links = side.team.links(ACCOUNT).await?;
            links.sort_unstable();
            let mut expected = [OWN.to_owned(), side.secret_name("one"), side.secret_name("two")];
            expected.sort_unstable();
            assert_eq!(links, expected);
            let secrets = [side.secret("one").await?, side.secret("two").await?];
            let of_the_pod = merged(&secrets)?;
            for granted in [EITHER_API, EITHER_API_NEXT] {
                let reference = format!("{}/team/web:v1", granted.registry);
                let files = images.pull(azure, &reference, &of_the_pod).await?;
                let files = String::from_utf8_lossy(&files);
                assert!(files.contains(IMAGE_FILE.1), "{reference}: {files}");
            }
            Ok(())
        })
        .await
    })
}

/// The credentials of all pull Secrets of a Pod together, as a kubelet has them.
fn merged(secrets: &[PullSecret]) -> anyhow::Result<String> {
    let mut auths = Map::new();
    for secret in secrets {
        let payload: Value = serde_json::from_str(&secret.docker_config)?;
        auths.extend(
            payload
                .get("auths")
                .and_then(Value::as_object)
                .cloned()
                .unwrap_or_default(),
        );
    }
    Ok(json!({"auths": auths}).to_string())
}
