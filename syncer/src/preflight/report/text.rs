//! The report for people.

use std::{collections::BTreeMap, error::Error, fmt::Write as _};

use super::{Federation, Report, Severity};
use crate::preflight::{
    changes::{Change, Token},
    findings::Finding,
    object::printable,
};

/// Findings of one kind that are listed. A cluster with thousands of bindings may have as many.
const LISTED: usize = 20;

/// The report as lines.
pub(super) fn of(report: &Report, is_verbose: bool) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut text = String::new();
    summary(&mut text, report)?;
    for (severity, title) in [
        (Severity::Blocker, "In the way"),
        (Severity::Attention, "To do or to decide"),
        (Severity::Info, "Good to know"),
    ] {
        let found: Vec<&Finding> = report
            .findings
            .iter()
            .filter(|finding| finding.severity == severity)
            .collect();
        if found.is_empty() {
            continue;
        }
        writeln!(text, "\n{title} ({})", found.len())?;
        for alike in found.chunk_by(|one, next| one.code == next.code) {
            findings(&mut text, alike)?;
        }
    }
    changes(&mut text, &report.changes, is_verbose)?;
    federations(&mut text, &report.federations)?;
    if !report.grants.grants.is_empty() || !report.grants.left_out.is_empty() {
        writeln!(
            text,
            "\nGrants for the broker's configuration\n{}",
            report.grants.yaml()?.trim_end()
        )?;
    }
    let verdict = if report.is_blocked() {
        "Something is in the way, see above."
    } else {
        "Nothing is in the way."
    };
    writeln!(text, "\n{verdict}")?;
    Ok(text)
}

fn findings(text: &mut String, alike: &[&Finding]) -> std::fmt::Result {
    for finding in alike.iter().take(LISTED) {
        writeln!(text, "  {}: {:?}", finding.object, finding.code)?;
        writeln!(text, "    {}", finding.message)?;
        writeln!(text, "    > {}", finding.remedy)?;
    }
    if let Some(one) = alike.get(LISTED) {
        let more = alike.len() - LISTED;
        writeln!(text, "  and {more} more with {:?} (use -o json)", one.code)?;
    }
    Ok(())
}

fn summary(text: &mut String, report: &Report) -> std::fmt::Result {
    let summary = &report.summary;
    let bindings: Vec<String> = summary
        .bindings
        .iter()
        .map(|(api, count)| format!("{count} of {api}"))
        .collect();
    writeln!(text, "Bindings    {}", bindings.join(", "))?;
    writeln!(text, "Namespaces  {}", summary.namespaces)?;
    counted(text, "Registries", &summary.registries)?;
    counted(text, "Identities", &summary.identities)
}

fn counted(text: &mut String, title: &str, counts: &BTreeMap<String, usize>) -> std::fmt::Result {
    writeln!(text, "{title:<12}{}", counts.len())?;
    for (name, count) in counts {
        writeln!(text, "  {name}: {count}")?;
    }
    Ok(())
}

fn changes(text: &mut String, changes: &[Change], is_verbose: bool) -> std::fmt::Result {
    if changes.is_empty() {
        return Ok(());
    }
    let hint = if is_verbose {
        ""
    } else {
        "; -v says it of each binding"
    };
    writeln!(text, "\nWhat the syncer would change{hint}")?;
    if is_verbose {
        for change in changes {
            writeln!(text, "  {}: {}", change.binding, printable(&change.in_words()))?;
        }
        return Ok(());
    }
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for change in changes {
        *counts
            .entry(format!("Secrets {}", change.secret.in_words()))
            .or_default() += 1;
        for link in &change.links {
            *counts
                .entry(format!("links {}", link.change.in_words()))
                .or_default() += 1;
        }
        if change.token != Token::None {
            *counts
                .entry(format!("tokens {}", change.token.in_words()))
                .or_default() += 1;
        }
    }
    let finalizers = changes
        .iter()
        .filter(|change| change.is_finalizer_removed)
        .count();
    counts.insert("finalizers of Azure/msi-acrpull removed".to_owned(), finalizers);
    for (what, count) in counts.iter().filter(|(_what, count)| **count > 0) {
        writeln!(text, "  {count} {what}")?;
    }
    Ok(())
}

fn federations(text: &mut String, federations: &[Federation]) -> std::fmt::Result {
    let Some(first) = federations.first() else {
        return Ok(());
    };
    writeln!(text, "\nFederated credentials that Entra ID must have")?;
    let issuer = first
        .issuer
        .as_deref()
        .unwrap_or("that of this cluster: kubectl get --raw /.well-known/openid-configuration");
    writeln!(text, "  issuer    {}", printable(issuer))?;
    writeln!(text, "  audience  {}", first.audience)?;
    for federation in federations {
        let tenant = federation
            .tenant
            .as_deref()
            .unwrap_or("the default of the cluster");
        writeln!(text, "  client ID {}, tenant {tenant}", federation.client_id)?;
        for subject in &federation.subjects {
            writeln!(text, "    {}", printable(subject))?;
        }
    }
    Ok(())
}
