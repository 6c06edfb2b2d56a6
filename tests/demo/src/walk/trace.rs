//! Step 7: one trace through both processes.

use std::time::Duration;

use e2e::{Span, Trace};

use super::Walk;
use crate::scene::{BINDING, NAMESPACE};
use crate::tree;

/// Spans are sent five times a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// The beginning and the three calls to Azure that a first token costs.
const RECONCILE: &str = "reconcile AcrPullBinding";
const ENTRA: &str = "POST /{tenant}/oauth2/v2.0/token";
const EXCHANGE: &str = "POST /oauth2/exchange";
const TOKEN: &str = "POST /oauth2/token";

pub(super) async fn show(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    walk.screen.step(
        "One trace, from the event to Azure",
        "The syncer's trace goes on in the broker and ends at Azure, so a slow or failed binding can be followed through \
         all of it. This is how the first token came (OpenTelemetry).",
    );
    let collector = walk.stack.collector();
    let trace = e2e::poll("the trace of the first token", PATIENCE, async || {
        let traces = collector.traces_with(is_of_binding);
        Ok(traces.into_iter().find(is_complete).ok_or("it has not arrived"))
    })
    .await?;
    walk.screen.output(&tree::render(&trace));

    for (what, name) in [
        ("Entra", ENTRA),
        ("the registry's exchange", EXCHANGE),
        ("the registry's token endpoint", TOKEN),
    ] {
        let path = trace
            .span(name)
            .map(|span| trace.path_up(span))
            .unwrap_or_default();
        let is_below = path.last() == Some(&RECONCILE);
        walk.screen
            .check(&format!("the call to {what} is below the reconcile"), is_below);
    }
    let mut services: Vec<&str> = trace.spans().iter().map(|span| span.service.as_str()).collect();
    services.sort_unstable();
    services.dedup();
    walk.screen.check(
        &format!("one trace id, two processes: {}", services.join(" and ")),
        services.len() == 2,
    );
    Ok(())
}

fn is_of_binding(span: &Span) -> bool {
    span.name == RECONCILE
        && span.attribute("acrpull.binding.namespace") == Some(NAMESPACE)
        && span.attribute("acrpull.binding.name") == Some(BINDING)
}

/// Both processes send their spans when they like.
fn is_complete(trace: &Trace) -> bool {
    [RECONCILE, ENTRA, EXCHANGE, TOKEN]
        .into_iter()
        .all(|name| trace.span(name).is_some())
}
