//! Real files, the real loop, virtual time: what is served before, and after, a change on the disk.

mod hits;

use std::{
    fs,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{encoding::text::encode, registry::Registry};
use proto::{Reason, v1::GetDockerConfigRequest};
use runtime::{Tasks, clock::ManualClock};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    access::{self, Role},
    audit::test_log,
    authn::{Cluster, test_keys::Signer},
    authz,
    config::AuditConfig,
    error::CredentialError,
    request::DockerConfigRequest,
};

const NOW: u64 = 1_795_000_000;
const CLIENT_ID: &str = "33333333-3333-3333-3333-000000000001";
/// Guarantee A6.
const WITHIN: Duration = Duration::from_secs(10);

/// A configuration on disk, and a process that follows it.
struct Scene {
    folder: TempDir,
    registry: Registry,
    live: Live,
    tasks: Tasks,
    signer: Signer,
}

impl Scene {
    /// `edit` changes the file before the start.
    fn start(edit: impl FnOnce(String) -> String) -> Self {
        Self::start_asking(ClientAuth::None, edit)
    }

    /// The same, where the listener asks `clients` for certificates.
    fn start_asking(clients: ClientAuth, edit: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let signer = Signer::new("a");
        let path = folder.path().join("config.yaml");
        fs::write(folder.path().join("a.json"), signer.jwks_text()).unwrap();
        fs::write(folder.path().join("b.json"), Signer::new("b").jwks_text()).unwrap();
        fs::write(&path, edit(configuration())).unwrap();
        let loaded = config::load(&path);
        let tasks = Tasks::new(Shutdown::manual());
        let mut registry = Registry::default();
        let metrics = ConfigMetrics::register(&mut registry, now());
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::at(now()));
        let reloader = Reloader::start(
            loaded.config.unwrap(),
            clients,
            ClusterKeys::new(tasks.spawner(), Arc::clone(&clock)),
            &Readiness::default(),
            test_log::audit(AuditConfig::default(), &mut Registry::default()).0,
            clock,
            metrics,
        )
        .unwrap();
        let live = reloader.live();
        tasks.spawn(
            "configuration reload",
            reloader.follow(path, loaded.files, tasks.shutdown().clone()),
        );
        Self {
            folder,
            registry,
            live,
            tasks,
            signer,
        }
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.folder.path().join(name), text).unwrap();
    }

    fn token(&self) -> String {
        self.signer.sign(&json!({
            "iss": "https://kubernetes.default.svc.cluster.local",
            "sub": "system:serviceaccount:acrpull-system:acrpull-syncer",
            "aud": ["acrpull-broker"], "iat": NOW, "nbf": NOW, "exp": NOW + 600,
        }))
    }

    /// The path of a request up to the caches, which nobody passes without a permit.
    fn decide(&self, token: &str) -> Result<(), CredentialError> {
        let snapshot = self.live.current();
        let caller = snapshot.authenticator.caller(token)?;
        access::check(&caller, &[Role::Syncer])?;
        let request = DockerConfigRequest::try_from(request())?;
        authz::permit(&caller, None, &request, &snapshot.clouds, &snapshot.policy)?;
        Ok(())
    }

    fn metrics(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).unwrap();
        text
    }

    fn clusters(&self) -> Vec<Arc<Cluster>> {
        self.live.current().authenticator.clusters().to_vec()
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

fn configuration() -> String {
    format!(
        r"
apiVersion: config.acrpull.dev/v1alpha1
kind: BrokerConfiguration
clusters:
{}{}identities:
- {{name: team-web, tenant: 22222222-2222-2222-2222-222222222222, clientId: {CLIENT_ID}, source: imds}}
{}",
        cluster("weu-7", "{file: a.json}"),
        cluster("neu-1", "{file: b.json}"),
        grants()
    )
}

fn cluster(name: &str, jwks: &str) -> String {
    format!(
        r#"- name: {name}
  issuer: https://kubernetes.default.svc.cluster.local
  jwks: {jwks}
  callerAudiences: [acrpull-broker]
  subjectAudiences: ["api://AzureCRTokenExchange"]
  maxTokenLifetimeSeconds: 86400
  syncers: ["system:serviceaccount:acrpull-system:acrpull-syncer"]
"#
    )
}

fn grants() -> &'static str {
    "grants:\n- {name: web, clusters: [weu-7], namespaces: [web], serviceAccounts: [\"*\"], identity: team-web, registries: [prod.azurecr.io], repositories: [\"*\"]}\n"
}

fn request() -> GetDockerConfigRequest {
    serde_json::from_value(request_json()).unwrap()
}

fn request_json() -> Value {
    json!({
        "binding": {"namespace": "web", "name": "pull"},
        "serviceAccounts": ["app"],
        "registry": "prod.azurecr.io",
        "scopes": ["repository:app:pull"],
        "brokerOwned": {"clientId": CLIENT_ID},
    })
}

/// A change reaches the disk, and then there is the time that the guarantee gives.
async fn wait() {
    tokio::time::sleep(WITHIN).await;
}

#[tokio::test(start_paused = true)]
async fn a6_withdrawn_grant_is_refused_within_10_s() {
    let scene = Scene::start(|text| text);
    let token = scene.token();
    scene.decide(&token).unwrap();
    scene.write("config.yaml", &configuration().replace(grants(), ""));
    wait().await;
    assert_eq!(scene.decide(&token).unwrap_err().reason, Reason::PolicyDenied);
    // And given again.
    scene.write("config.yaml", &configuration());
    wait().await;
    scene.decide(&token).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a6_removed_cluster_is_refused_within_10_s_with_a_token_that_was_remembered() {
    let scene = Scene::start(|text| text);
    let token = scene.token();
    scene.decide(&token).unwrap();
    // Its grants stay: who cuts a cluster off in a hurry edits one place.
    let without = configuration().replace(&cluster("weu-7", "{file: a.json}"), "");
    assert!(without.contains("clusters: [weu-7]"));
    scene.write("config.yaml", &without);
    wait().await;
    assert_eq!(
        scene.decide(&token).unwrap_err().reason,
        Reason::ClusterNotRegistered
    );
}

#[tokio::test(start_paused = true)]
async fn a6_key_that_left_its_file_is_refused_within_10_s() {
    let scene = Scene::start(|text| text);
    let token = scene.token();
    scene.decide(&token).unwrap();
    scene.write("a.json", &Signer::new("c").jwks_text());
    wait().await;
    assert_eq!(
        scene.decide(&token).unwrap_err().reason,
        Reason::ClusterNotRegistered
    );
}

#[tokio::test(start_paused = true)]
async fn a6_syncer_that_is_no_longer_listed_is_refused_within_10_s() {
    let scene = Scene::start(|text| text);
    let token = scene.token();
    scene.decide(&token).unwrap();
    scene.write(
        "config.yaml",
        &configuration().replace("acrpull-system:acrpull-syncer", "acrpull-system:another"),
    );
    wait().await;
    assert_eq!(
        scene.decide(&token).unwrap_err().reason,
        Reason::CallerNotPermitted
    );
}

#[tokio::test(start_paused = true)]
async fn reload_of_a_wrong_configuration_is_refused_and_the_one_before_stays() {
    let scene = Scene::start(|text| text);
    let before = scene.live.current();
    for wrong in [
        "clusters: [\n".to_owned(),
        configuration().replace("identity: team-web", "identity: team-x"),
        // One key for two clusters.
        configuration().replace("b.json", "a.json"),
        // A file that is not there yet.
        configuration().replace("b.json", "later.json"),
        // A domain that the way to Azure was not built for.
        format!(
            "{}clouds:\n- {{name: x, authority: https://login.x.example, registrySuffixes: [acr.x.example]}}\n",
            configuration()
        ),
        format!(
            "{}clouds:\n- {{name: x, authority: https://login.x.example, registries: [one.x.example]}}\n",
            configuration()
        ),
    ] {
        scene.write("config.yaml", &wrong);
        wait().await;
        assert!(Arc::ptr_eq(&before, &scene.live.current()), "{wrong}");
        scene.decide(&scene.token()).unwrap();
    }
    let metrics = scene.metrics();
    for line in [
        "acrpull_broker_config_reloads_total{outcome=\"failure\"} 6\n",
        "acrpull_broker_config_last_reload_successful 0\n",
        "acrpull_broker_config_last_reload_success_timestamp_seconds 1795000000\n",
    ] {
        assert!(metrics.contains(line), "{line}{metrics}");
    }
    scene.write("config.yaml", &configuration());
    wait().await;
    assert!(!Arc::ptr_eq(&before, &scene.live.current()));
    assert!(
        scene
            .metrics()
            .contains("acrpull_broker_config_last_reload_successful 1\n")
    );
}

#[tokio::test(start_paused = true)]
async fn reload_waits_for_a_file_that_comes_after_the_one_that_names_it() {
    let scene = Scene::start(|text| text);
    scene.write("config.yaml", &configuration().replace("b.json", "later.json"));
    wait().await;
    assert!(scene.metrics().contains("outcome=\"failure\"} 1\n"));
    scene.write("later.json", &Signer::new("later").jwks_text());
    wait().await;
    assert!(scene.metrics().contains("outcome=\"success\"} 1\n"));
}

#[tokio::test(start_paused = true)]
async fn reload_takes_the_rest_when_egress_has_changed() {
    let scene = Scene::start(|text| text);
    let token = scene.token();
    scene.write(
        "config.yaml",
        &format!(
            "{}egress: {{hostOverrides: {{prod.azurecr.io: \"10.1.2.3:443\"}}}}\n",
            configuration().replace(grants(), "")
        ),
    );
    wait().await;
    assert_eq!(scene.decide(&token).unwrap_err().reason, Reason::PolicyDenied);
}

#[tokio::test(start_paused = true)]
async fn reload_keeps_the_keys_of_a_cluster_whose_url_stays() {
    let by_url = |text: String| text.replace("{file: b.json}", "{url: \"https://127.0.0.1:9/keys\"}");
    let scene = Scene::start(by_url);
    let before = scene.clusters();
    scene.write("config.yaml", &by_url(configuration()).replace(grants(), ""));
    wait().await;
    let after = scene.clusters();
    assert!(!Arc::ptr_eq(&before[1], &after[1]) && after[1].keys.is_same(&before[1].keys));
    scene.tasks.shutdown().start();
}

#[tokio::test(start_paused = true)]
async fn a4_cluster_may_be_bound_to_certificates_only_where_callers_are_asked_for_them() {
    let bound = configuration().replacen(
        "  syncers:",
        "  clientCertificates: [weu-7.example]\n  syncers:",
        1,
    );
    for (clients, is_taken) in [
        (ClientAuth::None, false),
        (ClientAuth::Request("ca.crt".into()), true),
    ] {
        let scene = Scene::start_asking(clients, |text| text);
        scene.write("config.yaml", &bound);
        wait().await;
        let bound_now = !scene.clusters()[0].config.client_certificates.is_empty();
        assert_eq!(bound_now, is_taken);
        let successful = format!("config_last_reload_successful {}\n", u8::from(is_taken));
        assert!(scene.metrics().contains(&successful));
    }
}
