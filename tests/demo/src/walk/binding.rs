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
    walk.kubectl(&format!(
        "wait apb/{BINDING} --namespace {NAMESPACE} --for=condition=Ready --timeout=30s"
    ))
    .await?;
    let table = walk.kubectl(&format!("get apb --namespace {NAMESPACE}")).await?;
    let is_ready = table
        .lines()
        .any(|line| line.starts_with(BINDING) && line.contains("True"));
    walk.screen.check("the binding is Ready", is_ready);

    let text = describe(walk, BINDING).await?;
    for condition in [
        "Ready",
        "CredentialIssued",
        "SecretSynced",
        "ServiceAccountLinked",
    ] {
        walk.screen.check(
            &format!("condition {condition} is True"),
            is_true(&text, condition),
        );
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
    let mut lines = description
        .lines()
        .skip_while(|line| line.trim() != "Conditions:");
    let heading = lines.next();
    // A section of the status is indented by two, what is in it by more.
    let conditions = lines.clone().take_while(|line| line.starts_with("   "));
    let conditions =
        conditions.filter(|line| !LEFT_OUT.iter().any(|name| line.trim_start().starts_with(name)));
    let events = lines.clone().skip_while(|line| !line.starts_with("Events:"));
    heading
        .into_iter()
        .chain(conditions)
        .chain(events)
        .collect::<Vec<_>>()
        .join("\n")
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

#[cfg(test)]
mod tests {
    use super::*;

    const DESCRIPTION: &str = "\
Name: web
Status:
  Conditions:
    Last Transition Time:  2026-01-01T00:00:00Z
    Status:                False
    Type:                  RefreshDegraded
    Status:                True
    Type:                  Ready
  Granted Scope:           x
Events:
  Type    Reason
  Normal  Issued";

    #[test]
    fn excerpt_has_conditions_and_events_and_no_more() {
        let text = excerpt(DESCRIPTION);
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        assert_eq!(lines.first(), Some(&"Conditions:"));
        assert_eq!(lines.last(), Some(&"Normal  Issued"));
        assert_eq!(lines.len(), 8);
        assert!(!text.contains("Granted") && !text.contains("Transition"));
    }

    #[test]
    fn condition_is_true_by_the_status_before_its_type() {
        assert!(is_true(DESCRIPTION, "Ready"));
        assert!(!is_true(DESCRIPTION, "RefreshDegraded"));
        assert!(!is_true(DESCRIPTION, "Missing"));
    }
}
