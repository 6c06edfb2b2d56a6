//! Step 8: a binding that is refused.

use std::time::Duration;

use e2e::condition;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::ListParams;
use kube::{Api, Client};
use syncer::crd::AcrPullBinding;

use super::{Walk, binding};
use crate::scene::{
    GRANTED_NAMESPACE, NAMESPACE, OWNED_IDENTITY, REFUSED_BINDING, owned_identity, refused_manifest,
};

/// A denial is decided by the broker alone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why.
const REASON: &str = "PolicyDenied";

pub(super) async fn show(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    walk.screen.step(
        "A binding that is refused",
        &format!(
            "This one asks for {OWNED_IDENTITY}, an identity of the broker, which is granted to the namespace \
             {GRANTED_NAMESPACE} and to no other. What is not granted is denied, before Azure is asked."
        ),
    );
    let seq = walk.last_call().await?;
    walk.apply("batch.yaml", &refused_manifest()).await?;
    let client = walk.stack.client()?;
    wait_until_refused(&client).await?;
    let table = walk.kubectl(&format!("get apb --namespace {NAMESPACE}")).await?;
    let is_refused = table
        .lines()
        .any(|line| line.starts_with(REFUSED_BINDING) && line.contains("False") && line.contains(REASON));
    walk.screen
        .check(&format!("it is not Ready, for the reason {REASON}"), is_refused);

    let text = binding::describe(walk, REFUSED_BINDING).await?;
    walk.screen.check(
        "an event says so",
        text.contains("Warning") && text.contains(REASON),
    );
    let secret = Api::<Secret>::namespaced(client, NAMESPACE)
        .get_opt(&format!("acr-pull-{REFUSED_BINDING}"))
        .await?;
    walk.screen.check("there is no Secret", secret.is_none());
    // The other binding may be due just now, and asks for a token of its own.
    let calls = walk.credential_calls_since(seq).await?;
    let owned = owned_identity().client_id;
    let is_for_owned = |client_id: Option<&str>| client_id == Some(owned.as_str());
    let asked = calls.iter().any(|call| is_for_owned(call.client_id.as_deref()));
    walk.screen.check("Azure was not asked for it", !asked);
    Ok(())
}

/// Waits for the condition, and for the event, which is published on its own.
async fn wait_until_refused(client: &Client) -> anyhow::Result<()> {
    let bindings: Api<AcrPullBinding> = Api::namespaced(client.clone(), NAMESPACE);
    let events: Api<Event> = Api::namespaced(client.clone(), NAMESPACE);
    let of_binding =
        ListParams::default().fields(&format!("involvedObject.name={REFUSED_BINDING},reason={REASON}"));
    e2e::poll("the binding is refused", PATIENCE, async || {
        let found = bindings.get(REFUSED_BINDING).await?;
        let reason = condition(&found, "Ready").map_or_else(String::new, |ready| ready.reason.clone());
        if reason != REASON {
            return Ok(Err(format!("the reason is {reason:?}")));
        }
        let is_published = !events.list(&of_binding).await?.items.is_empty();
        Ok(is_published
            .then_some(())
            .ok_or_else(|| "there is no event".to_owned()))
    })
    .await
}
