//! Guarantee L1 for what only the broker holds: its own token, the token for a cluster's keys, the keys of its certificate
//! and of the audit. Everything that it says is searched: its log with the audit in it, traces, metrics, errors.

use anyhow::ensure;
use azure_simulator::{Operation, Service, ServiceAccountToken};
use e2e::rig::{ACCOUNT, ISSUER, TEAM};
use e2e::{BROKER_AUDIENCE, CLUSTER, Canaries, Collector, FEDERATION_AUDIENCE, Rig, SYNCER_SUBJECT, Site};
use proto::v1::broker_owned_identity::Selector;
use proto::v1::get_docker_config_request::Identity;
use proto::v1::{BrokerOwnedIdentity, GetDockerConfigRequest};
use serde_json::{Value, json};

const KEYS_TOKEN: &str = "keys-token";
const OWN_TOKEN: &str = "own-token";
const AUDIT_KEY: &str = "audit-key";
/// The identity that trusts the broker's own token.
const IDENTITY: &str = "by-own-token";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_nothing_that_a_broker_holds_is_in_what_it_says() -> anyhow::Result<()> {
    let rig = Rig::start("tokens", ["honest"]).await?;
    let site = rig.site("honest")?;
    let collector = Collector::start().await?;
    let mut canaries = Canaries::default();
    plant(&rig, &mut canaries)?;
    let proxy = format!("http://{}", rig.azure().addresses().proxy);
    let environment = [
        ("HTTPS_PROXY", &*proxy),
        ("RUST_LOG", "trace"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*collector.endpoint()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let broker = rig
        .broker_with("tokens", &environment, |config| add_to(config, site))
        .await?;

    let caller = rig.caller(&broker)?;
    let mut refusals = Vec::new();
    for request in [rig.federated(site), site.broker_owned(), by_own_token(site)] {
        let answer = caller.ask(&request).await?;
        ensure!(answer.is_ok(), "{answer:?}");
        let mut request = request;
        if let Some(Identity::Federated(identity)) = &mut request.identity {
            identity.subject_token = canaries.plant("a subject token that is none");
        } else {
            // A registry that no grant names.
            request.registry = format!("other-{}", request.registry);
        }
        let Err(refusal) = caller.ask(&request).await? else {
            anyhow::bail!("it is good");
        };
        refusals.push(format!("{refusal:?}"));
    }
    let metrics = broker.metrics().await?;
    drop(caller);
    // Then all spans are sent.
    broker.stop().await?;

    let asked = rig.azure().calls().of(Service::Entra, Operation::Keys);
    let keys_token_sent = asked.clone().filter(|call| !call.secrets.is_empty()).count();
    ensure!(keys_token_sent > 0, "the token was not used: {asked:?}");
    let log = broker.logs()?;
    ensure!(log.lines().count() > 3, "nothing was logged");
    ensure!(
        log.contains(r#""fingerprint_key_is_random":false"#),
        "the audit key was not used"
    );
    for issued in rig.azure().issued() {
        canaries.add_token(&issued.kind, &issued.secret);
    }
    canaries.add_token("the caller's token", &std::fs::read_to_string(rig.token_file()?)?);
    let spans = collector.encoded()?;
    ensure!(!spans.is_empty(), "nothing was traced");
    for (name, content) in [
        ("log", log.as_bytes()),
        ("metrics", metrics.as_bytes()),
        ("traces as they are sent", &*spans),
        ("traces", collector.text()?.as_bytes()),
        ("refusals", refusals.join("\n").as_bytes()),
    ] {
        let leak = canaries.find(content);
        ensure!(leak.is_none(), "in the {name}: {}", leak.unwrap());
    }
    Ok(())
}

/// Writes what the broker is to hold into files beside its configuration.
fn plant(rig: &Rig, canaries: &mut Canaries) -> anyhow::Result<()> {
    for (name, secret) in [
        (KEYS_TOKEN, "the token for a cluster's keys"),
        (AUDIT_KEY, "the audit key"),
    ] {
        std::fs::write(rig.folder().join(name), canaries.plant(secret))?;
    }
    // Of the account that the application trusts, and not the token that the syncer has of it.
    let wanted = ServiceAccountToken {
        ttl: 1_800,
        ..ServiceAccountToken::new(ISSUER, TEAM, ACCOUNT, FEDERATION_AUDIENCE)
    };
    let own = rig.azure().service_account_token(&wanted)?;
    std::fs::write(rig.folder().join(OWN_TOKEN), &own)?;
    canaries.add_token("the broker's own token", &own);
    let key = std::fs::read_to_string(rig.folder().join("tls.key"))?;
    canaries.add_key_pem("the key of the broker's certificate", &key);
    Ok(())
}

/// What makes a broker use all of it.
fn add_to(config: &mut Value, site: &Site) {
    // One document that is keys, and one that is none; both through the proxy, under the authority's name.
    let clusters = [("fetched", "discovery/v2.0/keys"), ("broken", "no-such-document")];
    let clusters = clusters.map(|(name, path)| {
        let url = format!("https://{}/{}/{path}", site.authority, site.tenant);
        json!({
            "name": name,
            "issuer": format!("https://{name}.example/"),
            "jwks": {"url": url, "caBundle": "azure-ca.crt", "tokenFile": KEYS_TOKEN},
            "callerAudiences": [BROKER_AUDIENCE],
            "subjectAudiences": [FEDERATION_AUDIENCE],
            "syncers": [SYNCER_SUBJECT],
        })
    });
    let identity = json!({
        "name": IDENTITY,
        "cloud": site.cloud,
        "tenant": site.tenant,
        "clientId": site.application.client_id,
        "source": {"projectedToken": {"file": OWN_TOKEN}},
    });
    let grant = json!({
        "name": IDENTITY,
        "clusters": [CLUSTER],
        "namespaces": [TEAM],
        "serviceAccounts": [ACCOUNT],
        "identity": IDENTITY,
        "registries": [site.registry],
        "repositories": ["team/*"],
    });
    let additions = [
        ("/clusters", clusters.to_vec()),
        ("/identities", vec![identity]),
        ("/grants", vec![grant]),
    ];
    for (section, additions) in additions {
        if let Some(all) = config.pointer_mut(section).and_then(Value::as_array_mut) {
            all.extend(additions);
        }
    }
    if let Some(config) = config.as_object_mut() {
        config.insert("audit".to_owned(), json!({"keyFile": AUDIT_KEY}));
    }
}

fn by_own_token(site: &Site) -> GetDockerConfigRequest {
    GetDockerConfigRequest {
        identity: Some(Identity::BrokerOwned(BrokerOwnedIdentity {
            selector: Some(Selector::ClientId(site.application.client_id.clone())),
        })),
        ..site.broker_owned()
    }
}
