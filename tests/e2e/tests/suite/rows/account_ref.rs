//! `--service-account-ref=ignore`: the ServiceAccount that is linked has the identity, as with Azure/msi-acrpull.

use azure_simulator::{Operation, Service};
use e2e::wait_for;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use syncer::binding::ApiVersion;
use syncer::inputs::base36_sha224;

use crate::shared::{ELSEWHERE, beside_others};
use crate::side::{ACCOUNT, PATIENCE, SCOPE, Side};

#[test]
fn b9_ref_that_is_ignored_leaves_the_identity_to_the_linked_account_and_the_hash_as_it_was()
-> anyhow::Result<()> {
    beside_others(async |stack| {
        let arguments = [
            format!("--label-selector={ELSEWHERE}=account-ref"),
            "--service-account-ref=ignore".to_owned(),
            // Otherwise it would stand by: the stack's syncer holds the Lease.
            "--leader-elect=false".to_owned(),
        ];
        let syncer = stack
            .syncer()
            .another("acrpull-syncer-account-ref", &arguments)
            .await?;
        let team = stack.team("account-ref").await?;
        // Each application trusts the one subject `web`, and the other account names none.
        let first = team.federated_account(ACCOUNT).await?;
        team.create_account("puller", &[], &[]).await?;
        let side = Side::new(&team, ApiVersion::V1Beta2);
        let registry = team.registry();
        let spec = json!({
            "acr": {"server": registry, "scope": SCOPE},
            "auth": {"workloadIdentity": {"serviceAccountRef": "puller"}},
            "serviceAccountName": ACCOUNT,
        });
        side.create_labelled("one", &spec, &[(ELSEWHERE, "account-ref")])
            .await?;
        side.ready("one").await?;
        let exchanged = async |client_id: &str| {
            let calls = stack.azure().calls().await?.of(Service::Entra, Operation::Token);
            anyhow::Ok(calls.client_id(client_id).count())
        };
        assert_eq!(exchanged(&first.client_id).await?, 1);
        let before = side.secret("one").await?;
        let hash =
            base36_sha224(format!("{ACCOUNT}workloadIdentitypullerPublicCloud{registry}{SCOPE}").as_bytes());
        let inputs = "acr.microsoft.com/token.inputs";
        assert_eq!(before.annotation(inputs), Some(hash.as_str()));
        let (binding, _status) = side.get("one").await?;

        // Only what the account says changes.
        let (azure, issuer) = (stack.azure(), stack.plane().issuer());
        let second = azure.add_application(issuer, team.namespace(), ACCOUNT).await?;
        azure.grant_pull(registry, &second.object_id).await?;
        let annotation = json!({"azure.workload.identity/client-id": second.client_id});
        let annotate = Patch::Merge(json!({"metadata": {"annotations": annotation}}));
        team.api::<ServiceAccount>()
            .patch(ACCOUNT, &PatchParams::default(), &annotate)
            .await?;
        wait_for("there is a token of the other identity", PATIENCE, async || {
            Ok(side.secret("one").await?.docker_config != before.docker_config)
        })
        .await?;
        assert_eq!(exchanged(&second.client_id).await?, 1);
        let after = side.secret("one").await?;
        assert_eq!(
            after.annotation(inputs),
            Some(hash.as_str()),
            "the peer would mint anew"
        );
        assert_eq!(after.version().1, before.version().1, "the Secret was replaced");
        side.ready("one").await?;
        assert_eq!(
            side.get("one").await?.0.metadata.generation,
            binding.metadata.generation,
            "nobody wrote the binding"
        );
        assert_eq!(team.links(ACCOUNT).await?, ["acr-pull-one"]);
        assert_eq!(team.links("puller").await?, Vec::<String>::new());
        syncer.stop().await;
        Ok(())
    })
}
