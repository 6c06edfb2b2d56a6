//! Everything that the processes leave behind where somebody may read it who may not read their secrets.

use anyhow::Context as _;
use e2e::{Canaries, Stack};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use syncer::crd::{AcrPullBinding, v1beta1};

/// The artefact with all that both processes trace.
pub(crate) const TRACES: &str = "traces";

/// What every JWT and every dockerconfigjson in base64 begins with: `{"`. Tokens of which nobody has a copy would show by
/// this.
const ENCODED_JSON: &[u8] = b"eyJ";

/// A text, or bytes, in which no secret may be.
pub(crate) struct Artefact {
    pub(crate) name: String,
    pub(crate) content: Vec<u8>,
    /// Only our processes write it: there is no reason for anything that looks like a token.
    pub(crate) is_ours: bool,
}

impl Artefact {
    pub(crate) fn ours(name: impl Into<String>, content: impl Into<Vec<u8>>) -> Self {
        Self {
            name: name.into(),
            content: content.into(),
            is_ours: true,
        }
    }
}

/// Of a whole stack: output of its processes, what they count, trace and write down, and every object of the cluster.
pub(crate) async fn artefacts(stack: &Stack) -> anyhow::Result<Vec<Artefact>> {
    let mut artefacts = vec![
        // In random bytes a token may seem to begin, but no secret is in them by chance.
        theirs("traces as they are sent", stack.collector().encoded()?),
        Artefact::ours(TRACES, stack.collector().text()?),
        Artefact::ours("broker's metrics", stack.broker().metrics().await?),
        Artefact::ours("syncer's metrics", stack.syncer().metrics().await?),
        Artefact::ours("events", all::<Event>(stack).await?),
        Artefact::ours("bindings", all::<AcrPullBinding>(stack).await?),
        Artefact::ours(
            "bindings of v1beta1",
            all::<v1beta1::AcrPullBinding>(stack).await?,
        ),
        Artefact::ours("leases", all::<Lease>(stack).await?),
        Artefact::ours("names and annotations of Secrets", secrets(stack).await?),
        theirs("ServiceAccounts", all::<ServiceAccount>(stack).await?),
        theirs("ConfigMaps", all::<ConfigMap>(stack).await?),
        theirs("Deployments", all::<Deployment>(stack).await?),
    ];
    for pod in [stack.broker(), stack.syncer()] {
        // Standard output and standard error, of every start.
        artefacts.push(Artefact::ours(format!("output of {}", pod.name()), pod.logs()?));
        for path in pod.written_files()? {
            let content =
                std::fs::read(&path).with_context(|| format!("failed to read {}", path.display()))?;
            if !content.is_empty() {
                artefacts.push(Artefact::ours(path.display().to_string(), content));
            }
        }
    }
    Ok(artefacts)
}

/// None of the secrets is in any of them, and each was searched.
pub(crate) fn assert_clean(artefacts: &[Artefact], canaries: &mut Canaries) {
    let control = canaries.plant("the control");
    for Artefact {
        name,
        content,
        is_ours,
    } in artefacts
    {
        // Not the text itself in any message: that is a log, too.
        assert!(!content.is_empty(), "{name} is empty");
        assert_eq!(canaries.find(content), None, "{name}");
        let token = content
            .windows(ENCODED_JSON.len())
            .position(|window| *is_ours && window == ENCODED_JSON);
        assert!(token.is_none(), "{name}: something like a token at {token:?}");
        // It would have been found.
        let (head, _) = content.split_at(content.len().min(1_000));
        let poisoned = [head, control.as_bytes().get(7..23).unwrap_or_default()].concat();
        assert!(canaries.find(&poisoned).is_some(), "{name} was not searched");
    }
}

fn theirs(name: &str, content: impl Into<Vec<u8>>) -> Artefact {
    Artefact {
        is_ours: false,
        ..Artefact::ours(name, content)
    }
}

/// All objects of a kind as one text: metadata with the managers of its fields, spec and status.
async fn all<K>(stack: &Stack) -> anyhow::Result<String>
where
    K: kube::Resource<DynamicType = ()> + Clone + std::fmt::Debug + Serialize + DeserializeOwned,
{
    let objects = Api::<K>::all(stack.client()?)
        .list(&ListParams::default())
        .await?;
    Ok(serde_json::to_string(&objects.items)?)
}

/// Everything but their data.
async fn secrets(stack: &Stack) -> anyhow::Result<String> {
    let objects = Api::<Secret>::all(stack.client()?)
        .list_metadata(&ListParams::default())
        .await?;
    Ok(serde_json::to_string(&objects.items)?)
}
