//! Nothing is left of a control plane, however its owner ends.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context as _, ensure};
use controlplane::{ControlPlane, ControlPlaneOptions, DEFAULT_ISSUER};
use rustix::process::{Signal, kill_process};

use crate::waiting::{kept_logs, pid_of_process_mentioning, processes_mentioning, until_nothing_is_left};

/// etcd, the API server, the controller manager, and the watchdog.
const PROCESSES_OF_A_PLANE: usize = 4;

/// `controlplane up` in a process of its own, ready.
pub(crate) struct Up {
    pub(crate) child: Child,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) lines: Vec<String>,
}

impl Up {
    /// Starts it in an environment that these variables are added to.
    pub(crate) fn start(environment: &[(&str, &Path)]) -> anyhow::Result<Self> {
        let mut child = Command::new(env!("CARGO_BIN_EXE_controlplane"))
            .arg("up")
            .env_remove("ACRPULL_E2E_CLUSTER")
            .env_remove("ACRPULL_KEEP_LOGS")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = BufReader::new(child.stdout.take().context("no standard output")?);
        let lines = output.lines().take(6).collect::<Result<Vec<_>, _>>()?;
        let first = lines.first().context("it printed nothing")?;
        let kubeconfig = first
            .strip_prefix("export KUBECONFIG=")
            .context("it printed no kubeconfig")?;
        Ok(Self {
            kubeconfig: PathBuf::from(kubeconfig),
            child,
            lines,
        })
    }

    fn folder(&self) -> anyhow::Result<PathBuf> {
        Ok(self
            .kubeconfig
            .parent()
            .context("the kubeconfig is in no folder")?
            .to_owned())
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        // Fails if it has ended, as it should have.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[tokio::test]
async fn drop_of_a_plane_leaves_nothing() -> anyhow::Result<()> {
    let plane = ControlPlane::start(ControlPlaneOptions {
        name: "dropped".to_owned(),
        always_own: true,
        ..Default::default()
    })
    .await?;
    assert_eq!(plane.issuer(), DEFAULT_ISSUER);
    let folder = plane.directory().to_owned();
    ensure!(plane.pids().len() == 3, "{:?}", plane.pids());
    ensure!(
        processes_mentioning(&folder).len() == PROCESSES_OF_A_PLANE,
        "{:?}",
        processes_mentioning(&folder)
    );
    drop(plane);
    assert!(!folder.exists(), "the folder must be gone when drop returns");
    until_nothing_is_left(&folder).await
}

#[tokio::test]
async fn kill_of_the_owner_leaves_nothing_but_the_logs_that_were_asked_for() -> anyhow::Result<()> {
    let mut up = Up::start(&[("ACRPULL_KEEP_LOGS", Path::new("1"))])?;
    let folder = up.folder()?;
    ensure!(
        processes_mentioning(&folder).len() == PROCESSES_OF_A_PLANE,
        "{:?}",
        processes_mentioning(&folder)
    );
    up.child.kill()?;
    up.child.wait()?;
    until_nothing_is_left(&folder).await?;
    let kept = kept_logs("up", up.child.id());
    for process in ["etcd", "kube-apiserver", "kube-controller-manager"] {
        ensure!(
            kept.join(format!("{process}.log")).is_file(),
            "{process} in {}",
            kept.display()
        );
    }
    std::fs::remove_dir_all(kept)?;
    Ok(())
}

#[tokio::test]
async fn death_of_a_part_ends_the_owner_with_its_name_and_leaves_nothing() -> anyhow::Result<()> {
    let mut up = Up::start(&[])?;
    let folder = up.folder()?;
    let etcd = pid_of_process_mentioning(&folder.join("etcd")).context("etcd is not there")?;
    kill_process(etcd, Signal::KILL)?;
    let status = tokio::task::spawn_blocking(move || up.child.wait()).await??;
    assert_eq!(status.code(), Some(1));
    until_nothing_is_left(&folder).await
}
