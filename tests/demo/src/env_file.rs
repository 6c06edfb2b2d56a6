//! The file `env`: shell exports of everything that a person needs to look around. It names files and processes and
//! holds no secret.

use std::path::Path;

use controlplane::Tool;
use e2e::Stack;

use crate::folder::{AZURE_CA_FILE, Folder};
use crate::processes::{self, Part};

/// The exports.
///
/// # Errors
/// A process is gone.
pub(crate) async fn exports(stack: &Stack, folder: &Folder) -> anyhow::Result<String> {
    let plane = stack.plane();
    let broker_url = stack.broker_url()?;
    let addresses = stack.azure().addresses();
    let parts = processes::all(stack).await?;
    let pids: Vec<String> = parts.iter().map(|part| part.pid.to_string()).collect();
    let shown = |path: &Path| path.display().to_string();
    let mut variables = vec![
        ("KUBECONFIG".to_owned(), shown(plane.kubeconfig_path())),
        (
            "ACRPULL_BROKER_GRPC".to_owned(),
            broker_url.trim_start_matches("https://").to_owned(),
        ),
        ("ACRPULL_BROKER_HTTP".to_owned(), broker_url),
        (
            "ACRPULL_BROKER_ADMIN".to_owned(),
            format!("http://{}", stack.broker().address("admin")?),
        ),
        ("ACRPULL_BROKER_CA_FILE".to_owned(), shown(stack.broker_ca_file())),
        (
            "ACRPULL_SYNCER_ADMIN".to_owned(),
            format!("http://{}", stack.syncer().address("admin")?),
        ),
        (
            "ACRPULL_SYNCER_TOKEN_FILE".to_owned(),
            shown(&stack.syncer_token_file()?),
        ),
        (
            "ACRPULL_SIMULATOR_ADMIN".to_owned(),
            format!("http://{}/_sim", addresses.admin),
        ),
        (
            "ACRPULL_SIMULATOR_PROXY".to_owned(),
            format!("http://{}", addresses.proxy),
        ),
        (
            "ACRPULL_SIMULATOR_CA_FILE".to_owned(),
            shown(&folder.path(AZURE_CA_FILE)),
        ),
        ("ACRPULL_LOGS".to_owned(), shown(&plane.logs_dir())),
        ("ACRPULL_PIDS".to_owned(), pids.join(" ")),
    ];
    variables.extend(parts.iter().map(pid_variable));
    let mut lines = vec!["# Of a running demo. It is removed when the demo ends.".to_owned()];
    lines.extend(
        variables
            .iter()
            .map(|(name, value)| format!("export {name}={}", quoted(value))),
    );
    // Last, so that a person's own programs win.
    let tools = [Tool::Kubectl, Tool::Helm, Tool::Crane].map(|tool| plane.tools().path(tool).parent());
    let directories = tools.into_iter().flatten();
    lines.extend(directories.map(|directory| format!("export PATH=\"$PATH\":{}", quoted(&shown(directory)))));
    Ok(lines.join("\n") + "\n")
}

fn pid_variable(part: &Part) -> (String, String) {
    let name = part.short_name.to_ascii_uppercase().replace('-', "_");
    (format!("ACRPULL_PID_{name}"), part.pid.to_string())
}

/// A value as one word of a POSIX shell.
fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_value_is_one_word() {
        assert_eq!(quoted("/tmp/a b"), "'/tmp/a b'");
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
