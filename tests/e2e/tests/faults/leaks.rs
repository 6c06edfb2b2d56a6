//! Guarantee L1 for what only the broker holds.

use anyhow::ensure;
use azure_simulator::{Operation, Service};
use e2e::{BROKER_AUDIENCE, Canaries, FEDERATION_AUDIENCE, Rig, SYNCER_SUBJECT};
use proto::v1::get_docker_config_request::Identity;
use serde_json::{Value, json};

/// A token with which the broker asks for a cluster's keys is as secret as any other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn l1_no_token_of_a_broker_is_in_its_log() -> anyhow::Result<()> {
    const KEYS_TOKEN: &str = "keys-token";
    let rig = Rig::start("tokens", ["honest"]).await?;
    let site = rig.site("honest")?;
    let mut canaries = Canaries::default();
    let keys_token = canaries.plant("the token for a cluster's keys");
    std::fs::write(rig.folder().join(KEYS_TOKEN), &keys_token)?;
    let keys_of = |path: &str| format!("https://{}/{}/{path}", site.authority, site.tenant);
    // One document that is keys, and one that is none; both through the proxy, under the authority's name.
    let clusters = [("fetched", "discovery/v2.0/keys"), ("broken", "no-such-document")];
    let proxy = format!("http://{}", rig.azure().addresses().proxy);
    let broker = rig
        .broker_with(
            "tokens",
            &[("HTTPS_PROXY", &proxy), ("RUST_LOG", "trace")],
            |config| {
                let clusters = clusters.map(|(name, path)| {
                    json!({
                        "name": name,
                        "issuer": format!("https://{name}.example/"),
                        "jwks": {"url": keys_of(path), "caBundle": "azure-ca.crt", "tokenFile": KEYS_TOKEN},
                        "callerAudiences": [BROKER_AUDIENCE],
                        "subjectAudiences": [FEDERATION_AUDIENCE],
                        "syncers": [SYNCER_SUBJECT],
                    })
                });
                if let Some(all) = config.pointer_mut("/clusters").and_then(Value::as_array_mut) {
                    all.extend(clusters);
                }
            },
        )
        .await?;
    let caller = rig.caller(&broker)?;
    for request in [rig.federated(site), site.broker_owned()] {
        let answer = caller.ask(&request).await?;
        ensure!(answer.is_ok(), "{answer:?}");
        let mut request = request;
        if let Some(Identity::Federated(identity)) = &mut request.identity {
            identity.subject_token = canaries.plant("a subject token that is none");
            ensure!(caller.ask(&request).await?.is_err(), "it is a token");
        }
    }
    let asked = rig.azure().calls().of(Service::Entra, Operation::Keys);
    let keys_token_sent = asked.clone().filter(|call| !call.secrets.is_empty()).count();
    ensure!(keys_token_sent > 0, "the token was not used: {asked:?}");

    for issued in rig.azure().issued() {
        canaries.add_token(&issued.kind, &issued.secret);
    }
    canaries.add_token("the caller's token", &std::fs::read_to_string(rig.token_file()?)?);
    let log = broker.logs()?;
    ensure!(log.lines().count() > 3, "nothing was logged");
    let leak = canaries.find(log.as_bytes());
    ensure!(leak.is_none(), "in the log: {}", leak.unwrap());
    Ok(())
}
