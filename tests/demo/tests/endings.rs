//! However the demo ends, it says why, its exit code tells, and nothing of it is left.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use reqwest::{Certificate, StatusCode};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A start takes some 15 s, and many times that beside a build.
const START_TIMEOUT: Duration = Duration::from_secs(180);

/// An end takes a second or two.
const END_TIMEOUT: Duration = Duration::from_secs(60);

/// How long the broker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);

/// Every process of the demo: where its number is in the file, and its name.
const PROCESSES: [(&str, &str); 7] = [
    ("ACRPULL_PID_ETCD", "etcd"),
    ("ACRPULL_PID_KUBE_APISERVER", "kube-apiserver"),
    ("ACRPULL_PID_KUBE_CONTROLLER_MANAGER", "kube-controller-manager"),
    ("ACRPULL_PID_SIMULATOR", "azure-simulator"),
    ("ACRPULL_PID_REGISTRY", "registry"),
    ("ACRPULL_PID_BROKER", "acrpull-broker-0"),
    ("ACRPULL_PID_SYNCER", "acrpull-syncer-0"),
];

/// A demo that runs as a process of its own, with folders of its own.
struct Demo {
    process: Child,
    /// Its temporary files, and those of everything that it starts.
    temporary: TempDir,
    /// What it writes for people.
    out: TempDir,
}

impl Demo {
    fn start() -> anyhow::Result<Self> {
        let (temporary, out) = (tempfile::tempdir()?, tempfile::tempdir()?);
        let process = Command::new(env!("CARGO_BIN_EXE_demo"))
            .args(["--keep", "--out"])
            .arg(out.path())
            .env("TMPDIR", temporary.path())
            // A cluster that the tests use must not be the demo's.
            .env_remove("ACRPULL_E2E_CLUSTER")
            .stdout(File::create(out.path().join("stdout"))?)
            .stderr(File::create(out.path().join("stderr"))?)
            .spawn()
            .context("failed to start the demo")?;
        Ok(Self {
            process,
            temporary,
            out,
        })
    }

    fn text(&self, name: &str) -> String {
        std::fs::read_to_string(self.out.path().join(name)).unwrap_or_default()
    }

    /// Waits for something that the demo does, and no longer than it lives.
    async fn wait_for(&mut self, what: &str, is_so: impl Fn(&Self) -> bool) -> anyhow::Result<()> {
        e2e::wait_for(what, START_TIMEOUT, async || {
            let ended = self.process.try_wait()?;
            ensure!(ended.is_none(), "the demo ended: {}", self.text("stderr"));
            Ok(is_so(self))
        })
        .await
    }

    /// The exports of its file, once it is there.
    async fn environment(&mut self) -> anyhow::Result<HashMap<String, String>> {
        self.wait_for("the demo writes its file", |demo| {
            demo.out.path().join("env").is_file()
        })
        .await?;
        let text = self.text("env");
        let exports = text
            .lines()
            .filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        Ok(exports
            .map(|(name, value)| (name.to_owned(), value.trim_matches('\'').to_owned()))
            .collect())
    }

    async fn end(&mut self) -> anyhow::Result<ExitStatus> {
        e2e::poll("the demo ends", END_TIMEOUT, async || {
            Ok(self.process.try_wait()?.ok_or("it still runs"))
        })
        .await
    }

    /// Fails if anything is left: a file, or a process that was started with one of its files.
    async fn leaves_nothing(&self) -> anyhow::Result<()> {
        let folder = self.temporary.path();
        e2e::poll("nothing is left", END_TIMEOUT, async || {
            let files: Vec<PathBuf> = std::fs::read_dir(folder)?
                .map(|entry| Ok(entry?.path()))
                .collect::<std::io::Result<_>>()?;
            let processes = command_lines_with(folder)?;
            let is_clean = files.is_empty() && processes.is_empty();
            Ok(if is_clean {
                Ok(())
            } else {
                Err(format!("{files:?} and {processes:?} are there"))
            })
        })
        .await
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // A test that failed; the demo's own watchdogs do the rest.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Processes of this machine that mention a folder.
fn command_lines_with(folder: &Path) -> anyhow::Result<Vec<String>> {
    let wanted = folder
        .to_str()
        .context("the temporary folder's name is not UTF-8")?;
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").context("/proc cannot be read")? {
        // Processes come and go meanwhile.
        let Ok(line) = std::fs::read(entry?.path().join("cmdline")) else {
            continue;
        };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(wanted) {
            found.push(line);
        }
    }
    Ok(found)
}

fn signal(pid: &str, signal: Signal) -> anyhow::Result<()> {
    let pid = Pid::from_raw(pid.parse().with_context(|| format!("{pid:?} is no process id"))?);
    kill_process(pid.context("0 is no process id")?, signal).context("failed to send a signal")
}

/// Asks the broker over HTTP as the syncer, with what the file names and nothing else.
async fn ask(environment: &HashMap<String, String>) -> anyhow::Result<(StatusCode, Value)> {
    let value = |name: &str| {
        environment
            .get(name)
            .with_context(|| format!("the file has no {name}"))
    };
    let authority = Certificate::from_pem(&std::fs::read(value("ACRPULL_BROKER_CA_FILE")?)?)?;
    let http = reqwest::Client::builder()
        .tls_certs_only([authority])
        .timeout(ANSWER_TIMEOUT)
        .no_proxy()
        .build()?;
    let request = json!({
        "binding": {"namespace": "data", "name": "by-hand"},
        "serviceAccounts": ["by-hand"],
        "registry": "demo.azurecr.io",
        "scopes": ["repository:team/web:pull"],
        "brokerOwned": {"clientId": "33333333-3333-3333-3333-000000000001"},
    });
    let answer = http
        .post(format!("{}/v1/docker-config", value("ACRPULL_BROKER_HTTP")?))
        .bearer_auth(std::fs::read_to_string(value("ACRPULL_SYNCER_TOKEN_FILE")?)?)
        .json(&request)
        .send()
        .await?;
    let status = answer.status();
    Ok((status, answer.json().await?))
}

#[tokio::test]
async fn demo_env_file_is_enough_to_ask_the_broker() -> anyhow::Result<()> {
    let mut demo = Demo::start()?;
    let (status, answer) = ask(&demo.environment().await?).await?;
    assert_eq!(status, StatusCode::OK, "{:?}", answer.get("reason"));
    assert!(answer.get("dockerConfigJson").is_some());
    Ok(())
}

#[tokio::test]
async fn demo_whose_process_is_killed_names_it_and_leaves_nothing() -> anyhow::Result<()> {
    for (variable, name) in PROCESSES {
        let mut demo = Demo::start()?;
        signal(&demo.environment().await?[variable], Signal::KILL)?;
        let status = demo.end().await?;
        let message = demo.text("stderr");
        assert_eq!(status.code(), Some(1), "{message}");
        let named = format!("demo: {name} ended unexpectedly (signal: 9 (SIGKILL))");
        assert!(message.contains(&named), "{message}");
        assert!(message.contains("the logs of demo will be kept in"), "{message}");
        assert!(!demo.out.path().join("env").exists(), "{name}");
        demo.leaves_nothing().await.context(name)?;
    }
    Ok(())
}

#[tokio::test]
async fn demo_that_is_told_to_stop_while_it_starts_says_so_and_leaves_nothing() -> anyhow::Result<()> {
    for (told, code, words) in [(Signal::INT, 130, "Ctrl-C"), (Signal::TERM, 143, "SIGTERM")] {
        let mut demo = Demo::start()?;
        let starts =
            |demo: &Demo| command_lines_with(demo.temporary.path()).is_ok_and(|lines| lines.len() > 1);
        demo.wait_for("the demo starts processes", starts).await?;

        signal(&demo.process.id().to_string(), told)?;
        let status = demo.end().await?;
        let message = demo.text("stderr");
        assert_eq!(status.code(), Some(code), "{message}");
        assert_eq!(message, format!("demo: stopped by {words}\n"));
        demo.leaves_nothing().await?;
    }
    Ok(())
}

#[tokio::test]
async fn demo_that_runs_ends_on_ctrl_c_and_leaves_nothing() -> anyhow::Result<()> {
    let mut demo = Demo::start()?;
    demo.environment().await?;
    signal(&demo.process.id().to_string(), Signal::INT)?;
    let status = demo.end().await?;
    let message = demo.text("stderr");
    assert_eq!(status.code(), Some(130), "{message}");
    assert_eq!(message, "demo: stopped by Ctrl-C\n");
    assert!(
        !demo.out.path().join("env").exists(),
        "the environment file is gone"
    );
    demo.leaves_nothing().await
}

#[test]
fn demo_with_an_unknown_flag_is_refused() -> anyhow::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).arg("--kep").output()?;
    assert_eq!(output.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--keep"));
    Ok(())
}
