//! Clouds that Azure does not have built in: from the manifest through admission to the token.

use std::time::Duration;

use azure_simulator::{Operation, Principal, Registry, Role, Service};
use e2e::{FEDERATION_AUDIENCE, Team, binding};
use serde_json::{Value, json};
use syncer::binding::ApiVersion;
use tokio::time::Instant;
use uuid::Uuid;

use crate::shared::{PRIVATE_CLOUD, PRIVATE_TENANT, beside_others};
use crate::side::{ACCOUNT, SCOPE, Side};

/// The promise: a new token within this.
const SOON: Duration = Duration::from_secs(5);

/// What a team writes for a cloud of its own.
fn spec(registry: &str, authority: &str, client_id: &str) -> Value {
    json!({
        "acr": {
            "server": registry,
            "scope": SCOPE,
            "environment": "AirgappedCloud",
            "cloudConfig": {
                "entraAuthorityHost": authority,
                "resourceManagerAudience": "https://management.private.example/",
            },
        },
        "auth": {"workloadIdentity": {
            "serviceAccountRef": ACCOUNT, "clientID": client_id, "tenantID": PRIVATE_TENANT,
        }},
        "serviceAccountName": ACCOUNT,
    })
}

#[test]
fn b2_binding_of_a_private_cloud_works_and_one_of_an_unknown_cloud_disturbs_nobody() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("private-cloud").await?;
        team.federated_account(ACCOUNT).await?;
        let side = Side::new(&team, ApiVersion::V1Beta2);
        let registry = format!("{}.{}", team.namespace(), PRIVATE_CLOUD.registry_suffix);
        let client_id = in_private_cloud(stack, &team, &registry).await?;
        let authority = format!("https://{}", PRIVATE_CLOUD.authority);

        let unknown = spec(&registry, "https://login.unknown.example", &client_id);
        side.create("unknown", &unknown).await?;
        side.refused("unknown", "CredentialIssued", "CloudNotConfigured")
            .await?;
        side.create("private", &spec(&registry, &authority, &client_id))
            .await?;
        side.ready("private").await?;
        let secret = side.secret("private").await?;
        assert!(secret.login(&registry).is_ok());
        let calls = stack.azure().calls().await?;
        let entra = calls
            .of(Service::Entra, Operation::Token)
            .client_id(&client_id)
            .status(200);
        let hosts: Vec<&str> = entra.entries().iter().map(|call| &*call.host).collect();
        assert_eq!(
            hosts,
            [PRIVATE_CLOUD.authority],
            "one call, to the cloud's own authority"
        );

        // A binding that changes over from the public cloud.
        let public = binding::workload_identity("moves", ACCOUNT, team.registry(), SCOPE);
        team.create(&public).await?;
        side.ready("moves").await?;
        let changed = Instant::now();
        side.patch("moves", &json!({"spec": spec(&registry, &authority, &client_id)}))
            .await?;
        side.wait_secret("moves", "is for the registry of the private cloud", |secret| {
            secret.login(&registry).is_ok() && secret.login(team.registry()).is_err()
        })
        .await?;
        let took = changed.elapsed();
        println!("another token {took:?} after the change of the cloud");
        assert!(took <= SOON, "it took {took:?}");
        side.ready("moves").await?;
        // The one that nobody can help has stayed as it was.
        assert!(side.secret("unknown").await.is_err());
        Ok(())
    })
}

/// A registry in that cloud and an application that may pull from it: its client ID.
async fn in_private_cloud(stack: &e2e::Stack, team: &Team<'_>, registry: &str) -> anyhow::Result<String> {
    let (client_id, object_id) = (Uuid::new_v4().to_string(), Uuid::new_v4().to_string());
    let subject = format!("system:serviceaccount:{}:{ACCOUNT}", team.namespace());
    let application = Principal::app(PRIVATE_TENANT, &client_id, &object_id).federated(
        stack.plane().issuer(),
        &subject,
        FEDERATION_AUDIENCE,
    );
    let registry = Registry::new(registry, PRIVATE_TENANT).with_role(&object_id, Role::AcrPull);
    stack
        .azure()
        .update(|state| {
            state.principals.push(application);
            state.registries.push(registry);
        })
        .await?;
    Ok(client_id)
}
