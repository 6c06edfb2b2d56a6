//! Step 3: what the binding says about itself.

use super::Walk;
use crate::scene::{BINDING, NAMESPACE};

/// What the description says about each condition that is left out here: times and numbers.
const LEFT_OUT: [&str; 2] = ["Last Transition Time:", "Observed Generation:"];

pub(super) async fn show(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    walk.screen.step(
        "What the binding says",
        "Ready means that a pull works now. Whoever has to find out why it does not looks here first.",
    );
    walk.kubectl(&format!("wait apb/{BINDING} --namespace {NAMESPACE} --for=condition=Ready --timeout=30s")).await?;
    let table = walk.kubectl(&format!("get apb --namespace {NAMESPACE}")).await?;
    let is_ready = table.lines().any(|line| line.starts_with(BINDING) && line.contains("True"));
    walk.screen.check("the binding is Ready", is_ready);

    let text = describe(walk, BINDING).await?;
    for condition in ["Ready", "CredentialIssued", "SecretSynced", "ServiceAccountLinked"] {
        walk.screen.check(&format!("condition {condition} is True"), is_true(&text, condition));
    }
    Ok(())
}

/// Shows the conditions and events of a binding, as kubectl describes them.
pub(super) async fn describe(walk: &Walk<'_>, binding: &str) -> anyhow::Result<String> {
    let arguments = format!("describe apb {binding} --namespace {NAMESPACE}");
    walk.screen.command(&format!("kubectl {arguments}"));
    let text = excerpt(&walk.kubectl_quietly(&arguments).await?);
    walk.screen.output(&text);
    Ok(text)
}

/// The conditions and the events of a description.
fn excerpt(description: &str) -> String {
    let mut kept = Vec::new();
    let mut is_kept = false;
    for line in description.lines() {
        let indent = line.chars().take_while(|character| *character == ' ').count();
        // Sections of the status are indented by two, what is in them by more.
        if indent <= 2 {
            is_kept = line.trim_start().starts_with("Conditions:") || line.starts_with("Events:") || (indent == 2
                && is_kept
                && kept.iter().any(|line: &&str| line.starts_with("Events:")));
        }
        if is_kept && !LEFT_OUT.iter().any(|left_out| line.trim_start().starts_with(left_out)) {
            kept.push(line);
        }
    }
    kept.join("\n")
}

/// Whether a described condition is True.
fn is_true(description: &str, condition: &str) -> bool {
    let mut status = "";
    for line in description.lines().map(str::trim) {
        match line.split_once(':') {
            Some(("Status", value)) => status = value.trim(),
            Some(("Type", value)) if value.trim() == condition => return status == "True",
            _ => {}
        }
    }
    false
}
