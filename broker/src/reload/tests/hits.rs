//! Guarantee A6 where it is hardest: a credential lies in the cache, and what its caller needs for it goes from the disk.
//! Within 10 s it is refused over both wires, and Azure is not asked.

use serde_json::Value;

use super::*;
use crate::test_scene::{self, WORKLOAD, federated_request, wire::BOTH};

const AUDIENCE: &str = "api://AzureCRTokenExchange";

/// One thing that is taken away, and what its caller is told then.
struct Row {
    what: &'static str,
    caller: Who,
    take: fn(&Scene),
    reason: &'static str,
}

/// Who has the credential that is in the cache.
#[derive(Clone, Copy)]
enum Who {
    /// The syncer, for an identity of the broker.
    Granted,
    /// The syncer, for an identity that trusts a ServiceAccount.
    Federated,
    /// A workload, for itself.
    Workload,
}

impl Scene {
    fn edit(&self, from: &str, to: &str) {
        let before = whole();
        let after = before.replace(from, to);
        assert_ne!(before, after, "{from}");
        self.write("config.yaml", &after);
    }

    fn sign(&self, subject: &str, audience: &str) -> String {
        self.signer.sign(&test_scene::claims(subject, audience))
    }

    fn good(&self, caller: Who) -> (String, Value) {
        let account = "system:serviceaccount:web:app";
        let mut granted = request_json();
        match caller {
            Who::Granted => (self.token(), granted),
            Who::Federated => {
                let shown = self.sign(account, AUDIENCE);
                (self.token(), federated_request(&shown))
            }
            Who::Workload => {
                granted["binding"]["namespace"] = "self-service".into();
                (self.sign(WORKLOAD, "acrpull-broker"), granted)
            }
        }
    }
}

/// The configuration with workloads, and a grant for them.
fn whole() -> String {
    configuration()
        .replacen(
            "  syncers:",
            "  workloads: {namespaces: [self-service]}\n  syncers:",
            1,
        )
        .replace("namespaces: [web],", "namespaces: [web, self-service],")
}

fn rows() -> Vec<Row> {
    let row = |what, caller, take, reason| Row {
        what,
        caller,
        take,
        reason,
    };
    vec![
        row(
            "the grant",
            Who::Granted,
            |scene| scene.edit(&granted(), ""),
            "POLICY_DENIED",
        ),
        row(
            "the namespace in the grant",
            Who::Granted,
            |scene| scene.edit("[web, self-service]", "[self-service]"),
            "POLICY_DENIED",
        ),
        row(
            "the cluster",
            Who::Granted,
            |scene| {
                let text = configuration().replace(&cluster("weu-7", "{file: a.json}"), "");
                scene.write("config.yaml", &text);
            },
            "CLUSTER_NOT_REGISTERED",
        ),
        row(
            "the key",
            Who::Granted,
            |scene| scene.write("a.json", &Signer::new("c").jwks_text()),
            "CLUSTER_NOT_REGISTERED",
        ),
        row(
            "the syncer",
            Who::Granted,
            |scene| scene.edit("acrpull-system:acrpull-syncer", "acrpull-system:another"),
            "CALLER_NOT_PERMITTED",
        ),
        row(
            "the caller's audience",
            Who::Granted,
            |scene| scene.edit("[acrpull-broker]", "[another]"),
            "CALLER_UNAUTHENTICATED",
        ),
        row(
            "the registry",
            Who::Granted,
            |scene| {
                scene.edit(
                    "  syncers:",
                    "  ceilings: {registries: [other.azurecr.io]}\n  syncers:",
                );
            },
            "REGISTRY_NOT_ALLOWED",
        ),
        row(
            "the cluster of a federated identity",
            Who::Federated,
            |scene| scene.write("a.json", &Signer::new("c").jwks_text()),
            "CLUSTER_NOT_REGISTERED",
        ),
        row(
            "the subject's audience",
            Who::Federated,
            |scene| scene.edit(AUDIENCE, "another"),
            "SUBJECT_TOKEN_REJECTED",
        ),
        row(
            "the tenant",
            Who::Federated,
            |scene| scene.edit("  syncers:", "  ceilings: {tenants: [other.example]}\n  syncers:"),
            "TENANT_NOT_ALLOWED",
        ),
        row(
            "the workloads",
            Who::Workload,
            |scene| scene.edit("  workloads: {namespaces: [self-service]}\n", ""),
            "CALLER_NOT_PERMITTED",
        ),
        row(
            "the grant of a workload",
            Who::Workload,
            |scene| scene.edit("[web, self-service]", "[web]"),
            "POLICY_DENIED",
        ),
    ]
}

fn granted() -> String {
    grants().replace("namespaces: [web],", "namespaces: [web, self-service],")
}

#[tokio::test]
async fn a6_what_is_taken_away_on_disk_is_refused_within_10_s_on_hits_over_both_wires() {
    for Row {
        what,
        caller,
        take,
        reason,
    } in rows()
    {
        let scene = Scene::start(|_text| whole());
        let served = test_scene::Scene::over(scene.live.clone()).await;
        let (bearer, request) = scene.good(caller);
        for wire in BOTH {
            served.ask(wire, &bearer, &request).await.expect(what);
        }
        assert_eq!(served.azure.calls(), 3, "{what}: the second one is a hit");
        // From here on nobody has to be asked, and the time may pass at once.
        tokio::time::pause();
        take(&scene);
        wait().await;
        for wire in BOTH {
            let refused = served.ask(wire, &bearer, &request).await;
            assert_eq!(refused, Err(reason.to_owned()), "{what}");
        }
        assert_eq!(served.azure.calls(), 3, "{what}");
        tokio::time::resume();
        scene.tasks.shutdown().start();
    }
}

#[tokio::test]
async fn s4_what_is_cached_stays_when_the_registries_of_its_cloud_are_narrowed() {
    for caller in [Who::Granted, Who::Federated, Who::Workload] {
        let scene = Scene::start(|_text| whole());
        let served = test_scene::Scene::over(scene.live.clone()).await;
        let (bearer, request) = scene.good(caller);
        served.ask(BOTH[0], &bearer, &request).await.unwrap();
        let calls = served.azure.calls();
        tokio::time::pause();
        scene.write(
            "config.yaml",
            &format!(
                "{}clouds:\n- {{name: PublicCloud, authority: https://login.microsoftonline.com, \
                 federationAudience: api://AzureADTokenExchange, registries: [prod.azurecr.io]}}\n",
                whole()
            ),
        );
        wait().await;
        assert!(scene.metrics().contains("outcome=\"success\"} 1\n"));
        for wire in BOTH {
            served.ask(wire, &bearer, &request).await.unwrap();
        }
        assert_eq!(served.azure.calls(), calls);
        tokio::time::resume();
        scene.tasks.shutdown().start();
    }
}
