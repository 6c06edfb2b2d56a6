//! Guarantee E1, from the object to the wire: a binding that names a foreign host is refused where it is written, or by the
//! broker, and nothing is ever sent there.

use e2e::binding;
use kube::ResourceExt as _;
use serde_json::json;
use syncer::crd::AcrPullBinding;

use crate::shared::beside_others;

const THIEF: &str = "thief.example";
const SCOPE: &str = "repository:team/web:pull";

#[test]
fn e1_binding_that_names_a_foreign_host_gets_nothing_and_sends_nothing() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("foreign").await?;
        team.federated_account("web").await?;
        let bound = |name: &str, registry: &str| binding::workload_identity(name, "web", registry, SCOPE);
        for registry in [
            THIEF.to_owned(),
            format!("{}.{THIEF}", team.registry()),
            format!("{THIEF}#.azurecr.io"),
            format!("{}@{THIEF}", team.registry()),
            format!("{}:444", team.registry()),
            format!("{}.", team.registry()),
            "127.0.0.1".to_owned(),
            "[::1]".to_owned(),
        ] {
            let created = team.create(&bound("refused", &registry)).await;
            assert!(created.is_err(), "{registry} was written");
        }

        // The syncer's chart lets these pass; the broker's configuration does not.
        let airgapped = format!("{}.azurecr.airgap.example", team.namespace());
        let other_cloud = format!("{}.azurecr.us", team.namespace());
        let authority = |host: &str| {
            let mut changed = serde_json::to_value(bound("authority", team.registry()))?;
            changed["spec"]["acr"]["environment"] = json!("AirgappedCloud");
            changed["spec"]["acr"]["cloudConfig"] = json!({
                "entraAuthorityHost": host, "resourceManagerAudience": format!("https://{THIEF}"),
            });
            serde_json::from_value::<AcrPullBinding>(changed)
        };
        for (binding, reason) in [
            (bound("airgapped", &airgapped), "RegistryNotAllowed"),
            (bound("other-cloud", &other_cloud), "RegistryNotAllowed"),
            (authority(&format!("https://{THIEF}"))?, "CloudNotConfigured"),
        ] {
            team.create(&binding).await?;
            team.refused(&binding.name_any(), "CredentialIssued", reason)
                .await?;
        }
        let calls = stack.azure().calls().await?;
        for host in [&airgapped, &other_cloud, team.registry(), THIEF] {
            assert!(calls.clone().host(host).is_empty(), "{host} was asked");
        }
        Ok(())
    })
}
