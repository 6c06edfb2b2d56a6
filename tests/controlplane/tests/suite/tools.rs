//! Finding and building tools, with a `go` that is a shell script: quick, and its every step can be
//! interrupted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::Context as _;
use tempfile::TempDir;

use crate::waiting::{processes_mentioning, until};

/// `go build -trimpath -ldflags FLAGS -o TARGET PACKAGE`: notes the call, writes half a binary, waits while
/// there is a file named `hold`, and writes the rest.
const FAKE_GO: &str = r#"#!/bin/sh
here=${0%/*}
for package; do :; done
echo "$package $GOFLAGS $CGO_ENABLED" >>"$here/calls"
while [ "$1" != -o ]; do shift; done
echo half >"$2"
while [ -e "$here/hold" ]; do sleep 0.05; done
echo whole >>"$2"
"#;

const BINARIES: usize = 7;

struct Machine {
    root: TempDir,
}

impl Machine {
    /// A machine with our Go, what it and the watchdog need, nothing else, and an empty cache.
    fn with_go() -> anyhow::Result<Self> {
        let machine = Self {
            root: tempfile::tempdir()?,
        };
        fs::create_dir(machine.bin())?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        for name in ["cp", "mkdir", "rm", "sleep"] {
            let found = std::env::split_paths(&path)
                .map(|folder| folder.join(name))
                .find(|path| path.is_file());
            std::os::unix::fs::symlink(
                found.with_context(|| format!("{name} is not on PATH"))?,
                machine.bin().join(name),
            )?;
        }
        write_executable(&machine.bin().join("go"), FAKE_GO)?;
        Ok(machine)
    }

    fn bin(&self) -> PathBuf {
        self.root.path().join("bin")
    }

    fn hold(&self) -> PathBuf {
        self.bin().join("hold")
    }

    fn tools(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_controlplane"));
        // Not the whole PATH of this machine: it may have a helm that fits.
        command
            .arg("tools")
            .env("PATH", self.bin())
            .env("XDG_CACHE_HOME", self.root.path().join("cache"))
            .env_remove("KUBEBUILDER_ASSETS")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    fn calls(&self) -> usize {
        fs::read_to_string(self.bin().join("calls"))
            .unwrap_or_default()
            .lines()
            .count()
    }

    /// The files of the cache with their contents, the lock aside.
    fn cached(&self) -> anyhow::Result<Vec<(String, String)>> {
        let mut files = Vec::new();
        let cache = self.root.path().join("cache/acrpull/tools");
        for folder in fs::read_dir(cache)?
            .flatten()
            .filter(|entry| entry.path().is_dir())
        {
            for file in fs::read_dir(folder.path())?.flatten() {
                files.push((
                    file.file_name().to_string_lossy().into_owned(),
                    fs::read_to_string(file.path())?,
                ));
            }
        }
        Ok(files)
    }
}

fn write_executable(path: &Path, content: &str) -> anyhow::Result<()> {
    fs::write(path, content)?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

async fn finish(child: std::process::Child) -> anyhow::Result<Output> {
    Ok(tokio::task::spawn_blocking(move || child.wait_with_output()).await??)
}

#[tokio::test]
async fn tools_built_once_are_found_in_the_cache_afterwards() -> anyhow::Result<()> {
    let machine = Machine::with_go()?;
    let first = finish(machine.tools().spawn()?).await?;
    assert!(first.status.success(), "{}", text(&first.stderr));
    assert!(
        text(&first.stderr).contains("about 13 minutes on two cores"),
        "{}",
        text(&first.stderr)
    );
    assert_eq!(machine.calls(), BINARIES);
    let calls = fs::read_to_string(machine.bin().join("calls"))?;
    assert!(
        calls.contains("k8s.io/kubernetes/cmd/kube-apiserver -mod=readonly 0"),
        "{calls}"
    );

    let second = finish(machine.tools().spawn()?).await?;
    assert!(
        second.status.success() && second.stderr.is_empty(),
        "{}",
        text(&second.stderr)
    );
    assert_eq!(machine.calls(), BINARIES, "nothing may be built again");
    assert_eq!(
        text(&second.stdout)
            .lines()
            .filter(|line| line.contains(" cache "))
            .count(),
        BINARIES
    );
    Ok(())
}

#[tokio::test]
async fn tools_two_builders_at_once_build_each_tool_once() -> anyhow::Result<()> {
    let machine = Machine::with_go()?;
    fs::write(machine.hold(), "")?;
    let one = machine.tools().spawn()?;
    until("the first builds", async || machine.calls() == 1).await?;
    let other = machine.tools().spawn()?;
    // The second must get as far as the lock before the first may go on.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    fs::remove_file(machine.hold())?;
    let (one, other) = tokio::try_join!(finish(one), finish(other))?;
    assert!(
        one.status.success() && other.status.success(),
        "{} {}",
        text(&one.stderr),
        text(&other.stderr)
    );
    assert!(
        text(&other.stderr).contains("waiting for another process"),
        "{}",
        text(&other.stderr)
    );
    assert_eq!(machine.calls(), BINARIES);
    Ok(())
}

#[tokio::test]
async fn tools_interrupted_build_leaves_no_half_binary_and_no_process() -> anyhow::Result<()> {
    let machine = Machine::with_go()?;
    fs::write(machine.hold(), "")?;
    let mut killed = machine.tools().spawn()?;
    until("half a binary is written", async || {
        machine
            .cached()
            .is_ok_and(|files| files.iter().any(|(_, content)| content == "half\n"))
    })
    .await?;
    killed.kill()?;
    killed.wait()?;
    until("the build has ended too", async || {
        processes_mentioning(machine.root.path()).is_empty()
    })
    .await?;
    assert!(
        machine
            .cached()?
            .iter()
            .all(|(name, _)| name.ends_with(".partial")),
        "{:?}",
        machine.cached()?
    );

    fs::remove_file(machine.hold())?;
    let second = finish(machine.tools().spawn()?).await?;
    assert!(second.status.success(), "{}", text(&second.stderr));
    let files = machine.cached()?;
    assert_eq!(files.len(), BINARIES, "{files:?}");
    assert!(
        files.iter().all(|(_, content)| content == "half\nwhole\n"),
        "{files:?}"
    );
    Ok(())
}

#[tokio::test]
async fn tools_build_that_fails_says_what_go_said() -> anyhow::Result<()> {
    let machine = Machine::with_go()?;
    write_executable(
        &machine.bin().join("go"),
        "#!/bin/sh\necho 'no space left' >&2\nexit 1\n",
    )?;
    let output = finish(machine.tools().spawn()?).await?;
    assert_eq!(output.status.code(), Some(1));
    let last = text(&output.stderr)
        .lines()
        .last()
        .context("no message")?
        .to_owned();
    assert!(
        last.contains("failed to build etcd") && last.contains("no space left"),
        "{last}"
    );
    Ok(())
}

#[tokio::test]
async fn tools_without_go_and_assets_name_the_remedy_in_one_line() -> anyhow::Result<()> {
    let machine = Machine {
        root: tempfile::tempdir()?,
    };
    let output = finish(machine.tools().env("PATH", machine.bin()).spawn()?).await?;
    assert_eq!(output.status.code(), Some(1));
    let message = text(&output.stderr);
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(
        message.contains("etcd")
            && message.contains("install Go 1.26")
            && message.contains("KUBEBUILDER_ASSETS"),
        "{message}"
    );
    Ok(())
}

#[tokio::test]
async fn tools_in_kubebuilder_assets_are_taken_where_they_fit() -> anyhow::Result<()> {
    let machine = Machine::with_go()?;
    let assets = machine.root.path().join("assets");
    fs::create_dir(&assets)?;
    write_executable(&assets.join("etcd"), "#!/bin/sh\necho etcd Version: 3.6.4\n")?;
    write_executable(
        &assets.join("kube-apiserver"),
        "#!/bin/sh\necho Kubernetes v1.33.0\n",
    )?;
    let output = finish(machine.tools().env("KUBEBUILDER_ASSETS", &assets).spawn()?).await?;
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    assert!(
        lines
            .lines()
            .any(|line| line.starts_with("etcd ") && line.contains("KUBEBUILDER_ASSETS")),
        "{lines}"
    );
    assert!(
        lines
            .lines()
            .any(|line| line.starts_with("kube-apiserver ") && line.contains("built now")),
        "{lines}"
    );
    // Its minor has no controller manager anywhere: the person who set the variable is told.
    assert!(
        text(&output.stderr).contains("kube-apiserver (1.33.0) is not used"),
        "{}",
        text(&output.stderr)
    );
    assert_eq!(machine.calls(), BINARIES - 1);
    Ok(())
}

#[tokio::test]
async fn command_line_that_is_wrong_exits_with_64() -> anyhow::Result<()> {
    let output = finish(
        Command::new(env!("CARGO_BIN_EXE_controlplane"))
            .arg("nonsense")
            .stderr(Stdio::piped())
            .spawn()?,
    )
    .await?;
    assert_eq!(output.status.code(), Some(64));
    assert!(text(&output.stderr).contains("nonsense"));
    Ok(())
}
