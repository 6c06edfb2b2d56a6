//! A trace as a tree that fits the screen: who did what below whom, when, and for how long. Pure.

use std::time::Duration;

use e2e::{Span, Trace};

/// Columns of the tree itself; the times follow.
const TREE_WIDTH: usize = 84;

/// The tree, one line per span.
pub(crate) fn render(trace: &Trace) -> String {
    let spans = trace.spans();
    let is_known = |id: &str| spans.iter().any(|span| span.id == id);
    let heading = format!("{:<TREE_WIDTH$}{:>9}{:>10}\n", "", "starts", "takes");
    let roots = spans.iter().filter(|span| !is_known(&span.parent_id));
    roots.fold(heading, |mut text, root| {
        text.push_str(&line(trace, root, ""));
        below(trace, root, "", &mut text);
        text
    })
}

fn below(trace: &Trace, parent: &Span, indent: &str, text: &mut String) {
    let children: Vec<&Span> = trace
        .spans()
        .iter()
        .filter(|span| span.parent_id == parent.id)
        .collect();
    for (position, child) in children.iter().enumerate() {
        let is_last = position + 1 == children.len();
        let (branch, deeper) = if is_last {
            ("└─ ", "   ")
        } else {
            ("├─ ", "│  ")
        };
        text.push_str(&line(trace, child, &format!("{indent}{branch}")));
        below(trace, child, &format!("{indent}{deeper}"), text);
    }
}

fn line(trace: &Trace, span: &Span, branches: &str) -> String {
    let start_ns = trace.spans().first().map_or(0, |first| first.start_ns);
    let after = Duration::from_nanos(span.start_ns.saturating_sub(start_ns));
    let what = format!("{branches}{}{}", label(span), outcome(span));
    format!(
        "{what:<TREE_WIDTH$}{:>9}{:>10}\n",
        milliseconds(after),
        milliseconds(span.duration())
    )
}

/// Process and operation; a call to Azure with the host, which says more than the path alone.
fn label(span: &Span) -> String {
    let service = span.service.strip_prefix("acrpull-").unwrap_or(&span.service);
    // The package of a gRPC method is the same in every line.
    let name = span
        .name
        .rsplit_once("v1.")
        .map_or(span.name.as_str(), |(_package, method)| method);
    match span.attribute("server.address") {
        Some(host) => format!("{service}  {host}  {name}"),
        None => format!("{service}  {name}"),
    }
}

fn outcome(span: &Span) -> String {
    span.attribute("http.response.status_code")
        .map(|status| format!("  {status}"))
        .unwrap_or_default()
}

fn milliseconds(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}
