//! The CRDs: whatever could work on the peer (Azure/msi-acrpull) is accepted, and what never could is refused by
//! the field. The manifests are in `fixtures/`.

use anyhow::Context as _;
use e2e::Team;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};
use syncer::binding::{ApiVersion, Binding};

use crate::shared::beside_others;

/// The manifests of one API.
struct Fixtures {
    api: ApiVersion,
    accepted: &'static str,
    refused: &'static str,
    /// What the peer left in a cluster, with status and all else that a backup brings back.
    peer_left: &'static str,
}

const FIXTURES: [Fixtures; 2] = [
    Fixtures {
        api: ApiVersion::V1Beta2,
        accepted: include_str!("../../fixtures/accepted.yaml"),
        refused: include_str!("../../fixtures/refused.yaml"),
        peer_left: include_str!("../../fixtures/peer-left-v1beta2.yaml"),
    },
    Fixtures {
        api: ApiVersion::V1Beta1,
        accepted: include_str!("../../fixtures/accepted-v1beta1.yaml"),
        refused: include_str!("../../fixtures/refused-v1beta1.yaml"),
        peer_left: include_str!("../../fixtures/peer-left-v1beta1.yaml"),
    },
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accepted {
    name: String,
    spec: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Refused {
    field: String,
    /// What else the answer tells.
    #[serde(default)]
    says: String,
    spec: Value,
}

#[test]
fn manifest_that_could_work_on_the_peer_is_accepted() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("accepted").await?;
        for Fixtures { api, accepted, .. } in FIXTURES {
            let manifests: Vec<Accepted> = serde_saphyr::from_str(accepted)?;
            for Accepted { name, spec } in manifests {
                let object = object(api, &name, &spec);
                create(&team, api, &object)
                    .await
                    .with_context(|| format!("{} {name}", api.as_str()))?;
            }
        }
        Ok(())
    })
}

#[test]
fn b21_manifest_that_never_could_work_is_refused_by_the_field() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("refused").await?;
        for Fixtures { api, refused, .. } in FIXTURES {
            let manifests: Vec<Refused> = serde_saphyr::from_str(refused)?;
            for Refused { field, says, spec } in manifests {
                let text = spec.to_string();
                let refused = create(&team, api, &object(api, "refused", &spec))
                    .await
                    .err()
                    .with_context(|| format!("accepted: {text}"))?;
                let message = format!("{refused:#}");
                assert!(message.contains(&field), "{text}: {message}");
                assert!(message.contains(&says), "{text}: {message}");
                // The answer is the schema's: not every cluster has the policies.
                assert!(
                    !message.contains("ValidatingAdmissionPolicy"),
                    "{text}: {message}"
                );
            }
        }
        Ok(())
    })
}

#[test]
fn manifest_of_each_binding_that_the_peer_left_is_accepted() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("peer-left").await?;
        for Fixtures { api, peer_left, .. } in FIXTURES {
            for document in peer_left.split("\n---\n") {
                let mut object: DynamicObject = serde_saphyr::from_str(document)?;
                // What an API server sets by itself and does not take.
                object.metadata = ObjectMeta {
                    namespace: None,
                    uid: None,
                    creation_timestamp: None,
                    managed_fields: None,
                    ..object.metadata
                };
                create(&team, api, &object).await?;
            }
        }
        Ok(())
    })
}

fn object(api: ApiVersion, name: &str, spec: &Value) -> DynamicObject {
    let resource = ApiResource::erase::<Binding>(&api);
    DynamicObject::new(name, &resource).data(json!({ "spec": spec }))
}

async fn create(team: &Team<'_>, api: ApiVersion, object: &DynamicObject) -> anyhow::Result<DynamicObject> {
    let resource = ApiResource::erase::<Binding>(&api);
    let client = team.api::<Secret>().into_client();
    let bindings: Api<DynamicObject> = Api::namespaced_with(client, team.namespace(), &resource);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    Ok(bindings.create(&params, object).await?)
}
