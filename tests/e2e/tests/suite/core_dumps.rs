//! Guarantee L2, as far as the processes go: they leave no core dump, and nobody of their own user reads their memory.
//!
//! Looked at from outside, in `/proc`: what of a process's folder belongs to root though the process does not.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use e2e::{Binaries, ServerCertificate, wait_for};
use rustix::process::geteuid;
use tempfile::TempDir;

use crate::bad_input::GOOD;

const PATIENCE: Duration = Duration::from_secs(20);
const ROOT: u32 = 0;
/// Somebody without rights, where the test itself has all of them.
const NOBODY: u32 = 65_534;

/// A process of another user than root; killed when dropped.
struct Running(Child);

impl Running {
    fn start(program: &Path, folder: &Path, arguments: &[&str]) -> anyhow::Result<Self> {
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(folder)
            .env_clear()
            .env("KUBECONFIG", "kubeconfig")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(folder.join("log"))?);
        if geteuid().is_root() {
            command.uid(NOBODY).gid(NOBODY);
        }
        let child = command.spawn();
        Ok(Self(child.with_context(|| {
            format!("failed to start {}", program.display())
        })?))
    }

    /// Whose the process's files are, and how large a core dump may be at most, in the words of the kernel.
    fn look(&self) -> anyhow::Result<(u32, String)> {
        let folder = format!("/proc/{}", self.0.id());
        let owner = std::fs::metadata(format!("{folder}/status"))?.uid();
        let limits = std::fs::read_to_string(format!("{folder}/limits"))?;
        let line = limits.lines().find(|line| line.starts_with("Max core file size"));
        let words: Vec<&str> = line
            .unwrap_or_default()
            .split_whitespace()
            .skip(4)
            .take(2)
            .collect();
        Ok((owner, words.join(" ")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself; there is nobody to tell either way.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[tokio::test]
async fn l2_processes_leave_no_core_dump_and_nobody_reads_their_memory() -> anyhow::Result<()> {
    let binaries = Binaries::of(&["broker", "syncer"]).await?;
    // Takes connections and says nothing: the syncer waits for it as long as this test needs.
    let silent = TcpListener::bind("127.0.0.1:0")?;
    let folder = folder(&format!("https://{}", silent.local_addr()?))?;
    let any = "127.0.0.1:0";
    let broker = [
        "run",
        "--config=good.yaml",
        "--tls-cert-file=tls.crt",
        "--tls-key-file=tls.key",
        "--listen-address",
        any,
        "--admin-address",
        any,
    ];
    let syncer = [
        "run",
        "--broker-address=https://localhost:1",
        "--broker-token-file=token",
        "--broker-ca-file=ca.crt",
        "--admin-address",
        any,
    ];
    // What the same look shows of a process that does nothing about it.
    let sleep = Running::start(Path::new("/bin/sleep"), folder.path(), &["60"])?;
    wait_for("the process of somebody else runs", PATIENCE, async || {
        Ok(sleep.look()?.0 != ROOT)
    })
    .await?;
    for (program, arguments) in [("broker", broker.as_slice()), ("syncer", &syncer)] {
        let process = Running::start(&binaries.path(program)?, folder.path(), arguments)?;
        let what = format!("core dumps of {program} are off");
        let off = wait_for(&what, PATIENCE, async || {
            Ok(process.look()? == (ROOT, "0 0".to_owned()))
        });
        let log = || std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
        off.await
            .with_context(|| format!("{:?}\n{}", process.look().ok(), log()))?;
    }
    Ok(())
}

/// Everything that the two need to start, readable by anybody.
fn folder(api_server: &str) -> anyhow::Result<TempDir> {
    let folder = tempfile::tempdir()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
    let certificate = ServerCertificate::issue(&["localhost"])?;
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": api_server, "insecure-skip-tls-verify": true}}],
        "users": [{"name": "c", "user": {"token": "t"}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "c"}}],
    });
    for (name, content) in [
        ("good.yaml", GOOD),
        ("tls.crt", &certificate.certificate_pem),
        ("tls.key", &certificate.key_pem),
        ("ca.crt", &certificate.ca_pem),
        ("token", "a.b.c"),
        ("kubeconfig", &kubeconfig.to_string()),
    ] {
        std::fs::write(folder.path().join(name), content)?;
    }
    Ok(folder)
}
