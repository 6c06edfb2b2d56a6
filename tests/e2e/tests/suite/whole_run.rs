//! What must hold of everything that has happened. The name of the module makes it the last to be run.

use std::time::Duration;

use azure_simulator::{Action, Fault, Operation, Service};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::{Stack, binding};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use serde::Serialize;
use syncer::crd::AcrPullBinding;

use crate::shared::alone;

/// What every JWT and every dockerconfigjson in base64 begins with: `{"`.
const ENCODED_JSON: &str = "eyJ";
/// As much of a secret as can be told from anything else.
const FRAGMENT_BYTES: usize = 16;

#[test]
fn l1_no_secret_is_in_any_log_event_or_status() -> anyhow::Result<()> {
    alone(async |stack| {
        // At the least: a success, a refusal with a body, and an answer that cannot be understood.
        let team = stack.team("leak").await?;
        team.federated_account("web").await?;
        let other = team.federated_account("other").await?;
        let garbage = Action::Body {
            body: azure_simulator::BodyVariant::Raw("eyJub3Q=.eyJhLXRva2Vu.AAAA".to_owned()),
        };
        let garbage = Fault::new(garbage)
            .on(Service::Entra, Operation::Token)
            .client_id(&other.client_id);
        stack.azure().add_fault(garbage).await?;
        for account in ["web", "other"] {
            let scope = "repository:team/web:pull";
            team.create(&binding::workload_identity(
                account,
                account,
                team.registry(),
                scope,
            ))
            .await?;
        }
        team.ready("web").await?;
        team.wait_binding("other", "has failed", Duration::from_secs(20), |binding| {
            binding
                .status
                .as_ref()
                .is_some_and(|status| status.error.is_some())
        })
        .await?;

        let mut texts = vec![
            ("broker's log", stack.broker().logs()?),
            ("syncer's log", stack.syncer().logs()?),
        ];
        texts.push(("events", all::<Event>(stack).await?));
        texts.push(("bindings", all::<AcrPullBinding>(stack).await?));
        let secrets = secrets(stack).await?;
        assert!(secrets.len() > 5, "nothing was handed out");
        for (place, text) in &texts {
            assert!(text.len() > 500, "{place} is empty: {text}");
            // Not the text itself: this message is a log, too.
            assert!(
                !text.contains(ENCODED_JSON),
                "{place}: something like a token at {:?}",
                text.find(ENCODED_JSON)
            );
            for (kind, secret) in &secrets {
                let fragments = secret
                    .as_bytes()
                    .chunks(FRAGMENT_BYTES)
                    .filter(|chunk| chunk.len() == FRAGMENT_BYTES);
                for fragment in fragments.map(String::from_utf8_lossy) {
                    assert!(
                        !text.contains(fragment.as_ref()),
                        "{place}: part of {kind} at {:?}",
                        text.find(fragment.as_ref())
                    );
                }
            }
        }
        Ok(())
    })
}

/// Everything that Azure handed out, raw and as it stands in a Secret, and the syncer's own tokens. Of what the syncer
/// minted nobody has a copy: for that there is [`ENCODED_JSON`].
async fn secrets(stack: &Stack) -> anyhow::Result<Vec<(String, String)>> {
    let mut secrets = Vec::new();
    for issued in stack.azure().issued().await? {
        // The last part of a token is the secret one: headers and claims are alike in all of them.
        let signature = issued.secret.rsplit('.').next().unwrap_or_default().to_owned();
        secrets.push((format!("{} in base64", issued.kind), STANDARD.encode(&signature)));
        secrets.push((issued.kind, signature));
    }
    let own = std::fs::read_to_string(stack.syncer_token_file()?)?;
    secrets.push((
        "the syncer's token".to_owned(),
        own.rsplit('.').next().unwrap_or_default().to_owned(),
    ));
    Ok(secrets)
}

/// All objects of a kind as one text.
async fn all<K>(stack: &Stack) -> anyhow::Result<String>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + serde::de::DeserializeOwned,
{
    let objects = Api::<K>::all(stack.client()?)
        .list(&kube::api::ListParams::default())
        .await?;
    Ok(serde_json::to_string(&objects.items)?)
}
