//! Step 1: what runs.

use rustix::process::{Pid, test_kill_process};

use super::Walk;
use crate::processes::{self, Part};

pub(super) async fn show(walk: &mut Walk<'_>) -> anyhow::Result<()> {
    walk.screen.step(
        "What was started",
        "Broker and syncer were installed with Helm into the real API server and run with the arguments, roles and \
         ServiceAccounts that their charts render: what you see is what a cluster would run.",
    );
    walk.screen
        .command("helm install acrpull-broker charts/acrpull-broker --namespace acrpull-system --values ...");
    walk.screen
        .command("helm install acrpull-syncer charts/acrpull-syncer --namespace acrpull-system --values ...");
    let parts = processes::all(walk.stack).await?;
    walk.screen.output(&table(&parts));
    let is_alive = |pid: u32| {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        pid.is_some_and(|pid| test_kill_process(pid).is_ok())
    };
    let all_alive = parts.iter().all(|part| is_alive(part.pid));
    walk.screen
        .check(&format!("all {} processes are alive", parts.len()), all_alive);
    Ok(())
}

/// One line per address; name and number stand in the first one of a process.
fn table(parts: &[Part]) -> String {
    let width = parts.iter().map(|part| part.name.len()).max().unwrap_or_default();
    let mut lines = vec![format!("{:<width$}  {:>7}  LISTENS ON", "PROCESS", "PID")];
    for part in parts {
        let mut name = (part.name.as_str(), part.pid.to_string());
        for address in &part.addresses {
            lines.push(format!("{:<width$}  {:>7}  {address}", name.0, name.1));
            name = ("", String::new());
        }
    }
    lines.join("\n")
}
