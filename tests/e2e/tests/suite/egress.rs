//! Guarantee E1, from the object to the wire: a binding that names a foreign host is refused where it is written, or by the
//! broker, and nothing is ever sent there. For the broker these hosts lead into a trap, and an HTTP client in the syncer
//! would take the same trap for its proxy.

use e2e::binding;
use kube::ResourceExt as _;
use serde_json::json;
use syncer::crd::AcrPullBinding;

use crate::shared::{LURE, beside_others};

const THIEF: &str = "thief.example";
const NO_HOST: &str = "server must be the bare host name of the registry";
const NO_DOMAIN: &str = "is not in an allowed domain";
const SCOPE: &str = "repository:team/web:pull";

#[test]
fn e1_binding_that_names_a_foreign_host_gets_nothing_and_sends_nothing() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("foreign").await?;
        team.federated_account("web").await?;
        let bound = |name: &str, registry: &str| binding::workload_identity(name, "web", registry, SCOPE);
        for (registry, why) in [
            (THIEF.to_owned(), NO_DOMAIN),
            (format!("{}.{THIEF}", team.registry()), NO_DOMAIN),
            (format!("{THIEF}#.azurecr.io"), NO_HOST),
            (format!("{}@{THIEF}", team.registry()), NO_HOST),
            (format!("{}:444", team.registry()), NO_HOST),
            (format!("{}.", team.registry()), NO_HOST),
            ("127.0.0.1".to_owned(), NO_HOST),
            ("[::1]".to_owned(), NO_HOST),
        ] {
            let refusal = team.create(&bound("refused", &registry)).await;
            let refusal = refusal.map_or_else(|refusal| format!("{refusal:#}"), |_binding| "none".to_owned());
            assert!(refusal.contains(why), "{registry}: {refusal}");
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
        assert!(calls.host(team.registry()).is_empty(), "the registry was asked");
        assert_eq!(stack.trap().connections(), 0, "somebody came into the trap");

        // A host that the broker may ask is one of those in the trap: it would have been seen.
        team.create(&bound("lured", LURE)).await?;
        team.refused("lured", "CredentialIssued", "RegistryUnreachable")
            .await?;
        assert!(stack.trap().connections() > 0, "the trap does not work");
        Ok(())
    })
}
