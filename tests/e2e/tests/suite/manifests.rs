//! The CRD: whatever could work on the peer (Azure/msi-acrpull) is accepted, and what never could is refused by
//! the field. The manifests are in `fixtures/`.

use anyhow::Context as _;
use e2e::Team;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, PostParams};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::shared::beside_others;

const ACCEPTED: &str = include_str!("../../fixtures/accepted.yaml");
const REFUSED: &str = include_str!("../../fixtures/refused.yaml");
/// What the peer left in a cluster, with status and all else that a backup brings back.
const PEER_LEFT: &str = include_str!("../../fixtures/peer-left-v1beta2.yaml");

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
    spec: Value,
}

#[test]
fn manifest_that_could_work_on_the_peer_is_accepted() -> anyhow::Result<()> {
    let manifests: Vec<Accepted> = serde_saphyr::from_str(ACCEPTED)?;
    beside_others(async |stack| {
        let team = stack.team("accepted").await?;
        for Accepted { name, spec } in manifests {
            create(&team, &object(&name, &spec)).await.with_context(|| name)?;
        }
        Ok(())
    })
}

#[test]
fn manifest_that_never_could_work_is_refused_by_the_field() -> anyhow::Result<()> {
    let manifests: Vec<Refused> = serde_saphyr::from_str(REFUSED)?;
    beside_others(async |stack| {
        let team = stack.team("refused").await?;
        for Refused { field, spec } in manifests {
            let text = spec.to_string();
            let refused = create(&team, &object("refused", &spec))
                .await
                .err()
                .with_context(|| format!("accepted: {text}"))?;
            let message = format!("{refused:#}");
            assert!(message.contains(&field), "{text}: {message}");
            // The answer is the schema's: not every cluster has the policies.
            assert!(
                !message.contains("ValidatingAdmissionPolicy"),
                "{text}: {message}"
            );
        }
        Ok(())
    })
}

#[test]
fn manifest_of_each_binding_that_the_peer_left_is_accepted() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("peer-left").await?;
        for document in PEER_LEFT.split("\n---\n") {
            let mut object: DynamicObject = serde_saphyr::from_str(document)?;
            // What an API server sets by itself and does not take.
            object.metadata = ObjectMeta {
                namespace: None,
                uid: None,
                creation_timestamp: None,
                managed_fields: None,
                ..object.metadata
            };
            create(&team, &object).await?;
        }
        Ok(())
    })
}

fn object(name: &str, spec: &Value) -> DynamicObject {
    let resource = ApiResource::erase::<syncer::crd::AcrPullBinding>(&());
    DynamicObject::new(name, &resource).data(json!({ "spec": spec }))
}

async fn create(team: &Team<'_>, object: &DynamicObject) -> anyhow::Result<DynamicObject> {
    let resource = ApiResource::erase::<syncer::crd::AcrPullBinding>(&());
    let client = team.api::<syncer::crd::AcrPullBinding>().into_client();
    let api: Api<DynamicObject> = Api::namespaced_with(client, team.namespace(), &resource);
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    Ok(api.create(&params, object).await?)
}
