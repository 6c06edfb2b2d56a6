//! What the documents say about faults: each example is taken as it is written, and no action is without one.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use azure_simulator::Action;
use reqwest::Client;
use serde_json::Value;

use crate::azure::{Walk, builder};

const DOCUMENTS: [&str; 2] = [include_str!("../../FAULTS.md"), include_str!("../../README.md")];

/// The lines of every block of JSON; each is one fault.
fn examples() -> impl Iterator<Item = &'static str> {
    DOCUMENTS
        .into_iter()
        .flat_map(|document| document.split("```json\n").skip(1))
        .filter_map(|block| block.split("```").next())
        .flat_map(str::lines)
}

/// Every type of action, as the parser lists them when it is given none of them.
fn every_action() -> Result<BTreeSet<String>> {
    let error = serde_json::from_str::<Action>(r#"{"type": ""}"#)
        .err()
        .context("an action without a name")?;
    // Before the first backtick, between each pair, and the empty name itself.
    let text = error.to_string();
    let names = text.split('`').skip(1).step_by(2);
    Ok(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

#[tokio::test]
async fn every_documented_fault_is_accepted_and_every_action_documented() -> Result<()> {
    let walk = Walk::with(builder()).await?;
    let faults = format!("http://{}/_sim/faults", walk.azure.addresses().admin);
    let client: Client = walk.azure.direct_client()?.build()?;
    let mut shown = BTreeSet::new();
    for example in examples() {
        let response = client.post(&faults).body(example).send().await?;
        let status = response.status();
        assert_eq!(status, 200, "{example}: {}", response.text().await?);
        let fault: Value = serde_json::from_str(example)?;
        let action = fault.pointer("/action/type").and_then(Value::as_str);
        shown.insert(action.context("no type")?.to_owned());
        // The next may have the same name.
        walk.azure.clear_faults();
    }
    assert_eq!(shown, every_action()?);
    Ok(())
}

#[tokio::test]
async fn fault_that_cannot_hit_is_refused_with_its_reason() -> Result<()> {
    let walk = Walk::with(builder()).await?;
    let faults = format!("http://{}/_sim/faults", walk.azure.addresses().admin);
    let client: Client = walk.azure.direct_client()?.build()?;
    for (example, reason) in [
        (
            r#"{"match": {"host": "demo.azurecr.io"}, "action": {"type": "hang", "at": "accept"}}"#,
            "host, which is not known by then",
        ),
        (
            r#"{"match": {"op": "token"}, "action": {"type": "tls", "defect": "expired"}}"#,
            "op, which is not known by then",
        ),
        (
            r#"{"match": {"service": "imds"}, "action": {"type": "reset", "at": "tls"}}"#,
            "imds has no TLS",
        ),
        (
            r#"{"match": {"service": "proxy"}, "action": {"type": "gzip_bomb"}}"#,
            "proxy has no answer of its own",
        ),
        (
            r#"{"flap": {"ok": 1, "fail": 0}, "action": {"type": "bad_chunking"}}"#,
            "never fails",
        ),
        (
            r#"{"action": {"type": "hang", "at": "lunch"}}"#,
            "unknown variant `lunch`",
        ),
    ] {
        let response = client.post(&faults).body(example).send().await?;
        assert_eq!(response.status(), 422, "{example}");
        let text = response.text().await?;
        assert!(text.contains(reason), "{example}: {text}");
    }
    Ok(())
}
