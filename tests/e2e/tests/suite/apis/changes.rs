//! A spec that changes: another token soon, or the old one until there is another.

use std::time::Duration;

use azure_simulator::{Operation, Service};
use e2e::{TENANT, binding, wait_for};
use serde_json::json;
use syncer::binding::ApiVersion;
use tokio::time::Instant;

use super::{ACCOUNT, SCOPE, Side, in_both_apis};
use crate::shared::{EITHER_API, EITHER_API_NEXT, beside_others};
use crate::side::in_each_api;

/// The promise: a new token within this.
const SOON: Duration = Duration::from_secs(5);
/// Allowed by no grant.
const DENIED: &str = "repository:other/web:pull";

#[test]
fn b10_binding_with_another_registry_and_identity_gets_another_token_within_five_seconds()
-> anyhow::Result<()> {
    beside_others(async |stack| {
        in_each_api(stack, &EITHER_API_NEXT, &async |_stack, side| {
            side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
            side.ready("one").await?;
            let before = side.secret("one").await?;
            let changed = Instant::now();
            side.patch(
                "one",
                &json!({"spec": side.spec_for(&EITHER_API_NEXT, ACCOUNT, SCOPE)}),
            )
            .await?;
            let after = side
                .wait_secret("one", "is for the other registry", |secret| {
                    secret.login(EITHER_API_NEXT.registry).is_ok()
                })
                .await?;
            let took = changed.elapsed();
            println!("{}: another token {took:?} after the change", side.api.as_str());
            assert!(took <= SOON, "it took {took:?}");
            assert!(
                after.login(EITHER_API.registry).is_err(),
                "the old one is still there"
            );
            assert_eq!(after.version().1, before.version().1, "the Secret was replaced");
            side.ready("one").await?;
            Ok(())
        })
        .await
    })
}

#[test]
fn b10_binding_with_another_client_id_gets_a_token_of_that_identity_within_five_seconds() -> anyhow::Result<()>
{
    beside_others(async |stack| {
        let team = stack.team("client-change").await?;
        let first = team.federated_account(ACCOUNT).await?;
        let azure = stack.azure();
        let issuer = stack.plane().issuer();
        let second = azure.add_application(issuer, team.namespace(), ACCOUNT).await?;
        azure.grant_pull(team.registry(), &second.object_id).await?;
        let exchanged = async |client_id: &str| {
            let calls = azure.calls().await?.of(Service::Entra, Operation::Token);
            anyhow::Ok(calls.client_id(client_id).count())
        };
        team.create(&binding::workload_identity(
            "one",
            ACCOUNT,
            team.registry(),
            SCOPE,
        ))
        .await?;
        team.ready("one").await?;
        assert_eq!(exchanged(&first.client_id).await?, 1);
        let before = team.secret("one").await?;

        let changed = Instant::now();
        let identity = json!({"clientID": second.client_id, "tenantID": TENANT});
        team.patch("one", &json!({"spec": {"auth": {"workloadIdentity": identity}}}))
            .await?;
        wait_for("another token", 2 * SOON, async || {
            Ok(team.secret("one").await?.docker_config != before.docker_config)
        })
        .await?;
        let took = changed.elapsed();
        println!("another token {took:?} after the change of the client ID");
        assert!(took <= SOON, "it took {took:?}");
        assert_eq!(exchanged(&second.client_id).await?, 1);
        assert_eq!(team.secret("one").await?.version().1, before.version().1);
        team.ready("one").await?;
        Ok(())
    })
}

/// What only a person can put right is tried again after half a minute. The change is what is acted on.
#[test]
fn b10_binding_with_another_tenant_alone_gets_a_token_within_five_seconds() -> anyhow::Result<()> {
    const NOWHERE: &str = "77777777-7777-7777-7777-777777777777";
    beside_others(async |stack| {
        let team = stack.team("tenant-change").await?;
        let application = team.federated_account(ACCOUNT).await?;
        let side = Side::new(&team, ApiVersion::V1Beta2);
        let mut binding = binding::workload_identity("one", ACCOUNT, team.registry(), SCOPE);
        if let Some(identity) = &mut binding.spec.auth.workload_identity {
            identity.client_id = Some(application.client_id.clone());
            identity.tenant_id = Some(NOWHERE.to_owned());
        }
        team.create(&binding).await?;
        side.condition("one", "CredentialIssued", "False").await?;
        let in_tenant = async |tenant: &'static str| {
            let patch = json!({"spec": {"auth": {"workloadIdentity": {"tenantID": tenant}}}});
            side.patch("one", &patch).await?;
            anyhow::Ok(Instant::now())
        };

        let changed = in_tenant(TENANT).await?;
        side.ready("one").await?;
        let took = changed.elapsed();
        println!("a token {took:?} after the change of the tenant");
        assert!(took <= SOON, "it took {took:?}");
        let calls = stack.azure().calls().await?.of(Service::Entra, Operation::Token);
        let calls = calls.client_id(&application.client_id).status(200);
        assert_eq!(calls.count(), 1);
        let before = side.secret("one").await?;

        in_tenant(NOWHERE).await?;
        side.condition("one", "Ready", "False").await?;
        assert_eq!(
            side.secret("one").await?.docker_config,
            before.docker_config,
            "what still works was touched"
        );
        Ok(())
    })
}

#[test]
fn binding_whose_change_is_denied_keeps_its_secret_and_is_not_ready() -> anyhow::Result<()> {
    in_both_apis(async |_stack, side| {
        side.create("one", &side.spec(ACCOUNT, SCOPE)).await?;
        side.ready("one").await?;
        let before = side.secret("one").await?;
        side.patch("one", &json!({"spec": side.spec(ACCOUNT, DENIED)}))
            .await?;
        let status = side.refused("one", "Ready", "PolicyDenied").await?;
        assert_eq!(status.granted_scope, None);
        let kept = side.secret("one").await?;
        assert_eq!(kept.version(), before.version(), "what still works was touched");
        // An identity that is not the team's is denied as well.
        let spec = side.spec_for(&EITHER_API_NEXT, ACCOUNT, SCOPE);
        side.patch("one", &json!({"spec": spec})).await?;
        side.refused("one", "Ready", "PolicyDenied").await?;
        assert_eq!(side.secret("one").await?.version(), before.version());

        // What it holds is good for the spec that it had.
        side.patch("one", &json!({"spec": side.spec(ACCOUNT, SCOPE)}))
            .await?;
        side.ready("one").await?;
        assert_eq!(side.secret("one").await?.docker_config, before.docker_config);
        Ok(())
    })
}
