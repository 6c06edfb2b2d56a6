//! What must hold of everything that has happened. The name of the module makes it the last to be run.

use std::collections::HashMap;
use std::time::Duration;

use azure_simulator::{Action, Fault, Operation, Service};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::{Stack, binding};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use serde::Serialize;
use syncer::crd::{AcrPullBinding, v1beta1};

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
        let of_both_apis =
            all::<AcrPullBinding>(stack).await? + &all::<v1beta1::AcrPullBinding>(stack).await?;
        texts.push(("bindings", of_both_apis));
        texts.push((
            "traces",
            format!("{:?}", stack.collector().traces_with(|_span| true)),
        ));
        texts.push(("broker's metrics", stack.broker().metrics().await?));
        texts.push(("syncer's metrics", stack.syncer().metrics().await?));
        let fragments = fragments(stack).await?;
        assert!(fragments.len() > 100, "nothing was handed out");
        for (place, text) in &texts {
            assert!(text.len() > 500, "{place} is empty: {text}");
            // Not the text itself: this message is a log, too.
            let token = text.find(ENCODED_JSON);
            assert!(token.is_none(), "{place}: something like a token at {token:?}");
            let mut windows = text.as_bytes().windows(FRAGMENT_BYTES);
            let leak = windows.find_map(|window| fragments.get(window));
            assert!(leak.is_none(), "{place}: part of {leak:?}");
        }
        Ok(())
    })
}

/// Parts of everything that Azure handed out, raw and as it stands in a Secret, and of the syncer's own token; each with
/// its kind. Of what the syncer minted nobody has a copy: for that there is [`ENCODED_JSON`].
async fn fragments(stack: &Stack) -> anyhow::Result<HashMap<Vec<u8>, String>> {
    let issued = stack.azure().issued().await?;
    let mut secrets: Vec<_> = issued
        .into_iter()
        .map(|issued| (issued.kind, issued.secret))
        .collect();
    secrets.push((
        "the syncer's own token".to_owned(),
        std::fs::read_to_string(stack.syncer_token_file()?)?,
    ));
    let mut fragments = HashMap::new();
    for (kind, secret) in secrets {
        // The last part of a token is the secret one: headers and claims are alike in all of them.
        let signature = secret.rsplit('.').next().unwrap_or_default();
        // What is encoded in base64 looks different at each of three positions in the text around it.
        let encoded = ["", "-", "--"].map(|before| STANDARD.encode(format!("{before}{signature}")));
        for form in encoded
            .iter()
            .map(|form| form.get(4..).unwrap_or_default())
            .chain([signature])
        {
            let chunks = form.as_bytes().chunks_exact(FRAGMENT_BYTES);
            fragments.extend(chunks.map(|chunk| (chunk.to_vec(), kind.clone())));
        }
    }
    Ok(fragments)
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
