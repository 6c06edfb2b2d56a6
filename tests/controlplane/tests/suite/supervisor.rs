//! Supervised processes: their output, their end, and their groups.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use controlplane::{Program, Supervisor};
use rustix::process::{Signal, kill_process};

use crate::waiting::{
    kept_logs, pid_of_process_mentioning, processes_mentioning, until, until_nothing_is_left,
};

const LONG: Duration = Duration::from_secs(20);

fn shell(script: &str) -> Program {
    Program::new("/bin/sh").args(["-c", script])
}

#[tokio::test]
async fn run_program_that_fails_returns_its_status_and_both_outputs() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("run")?;
    let output = supervisor
        .run(&shell("echo out; echo err >&2; exit 3"), LONG)
        .await?;
    assert_eq!(
        (output.stdout.as_str(), output.stderr.as_str()),
        ("out\n", "err\n")
    );
    assert_eq!(output.status.code(), Some(3));
    let error = output.success().expect_err("exit code 3 must be a failure");
    assert_eq!(error.to_string(), "exit status: 3: err\nout");
    Ok(())
}

#[tokio::test]
async fn run_program_that_hangs_is_killed_at_the_deadline() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("hang")?;
    let error = supervisor
        .run(&shell("echo stuck >&2; sleep 1000"), Duration::from_millis(300))
        .await;
    let error = error.expect_err("a hanging program must fail");
    assert!(
        error.to_string().contains("did not end within 300ms") && error.to_string().contains("stuck"),
        "{error}"
    );
    Ok(())
}

#[tokio::test]
async fn run_cleared_environment_shows_only_what_is_set() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("environment")?;
    let program = shell(r#"echo "${HOME-unset} ${COLOUR-unset}""#)
        .clear_env()
        .env("COLOUR", "blue");
    assert_eq!(supervisor.run(&program, LONG).await?.success()?, "unset blue\n");
    let program = shell(r#"echo "${PATH-unset}""#).without_env("PATH");
    assert_ne!(
        supervisor.run(&program, LONG).await?.success()?,
        std::env::var_os("PATH").unwrap_or_default().display().to_string()
    );
    Ok(())
}

#[tokio::test]
async fn spawn_program_that_does_not_exist_is_an_error_that_names_it() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("missing")?;
    let error = supervisor
        .spawn("missing", &Program::new("/nowhere/tool"))
        .expect_err("it must not start");
    assert_eq!(error.to_string(), "/nowhere/tool does not exist");
    Ok(())
}

#[tokio::test]
async fn exited_is_seen_by_every_waiter_and_failure_shows_the_log() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("exit")?;
    let process = supervisor.spawn("talker", &shell("echo last words; exit 7"))?;
    let (one, other) = tokio::join!(process.exited(), process.exited());
    assert_eq!(one.and_then(|status| status.code()), Some(7));
    assert_eq!(one, other);
    let failure = process.failure().to_string();
    assert!(
        failure.contains("talker ended unexpectedly (exit status: 7)"),
        "{failure}"
    );
    assert!(failure.ends_with("last words"), "{failure}");
    Ok(())
}

#[tokio::test]
async fn exited_can_be_awaited_in_another_runtime_than_that_of_the_spawn() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("runtimes")?;
    let elsewhere = Arc::clone(&supervisor);
    let spawned = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(async { elsewhere.spawn("sleeper", &shell("sleep 0.2")) })
    });
    let process = spawned.join().expect("the thread must not panic")?;
    let status = tokio::time::timeout(LONG, process.exited())
        .await?
        .context("no status")?;
    assert!(status.success());
    Ok(())
}

#[tokio::test]
async fn terminate_program_that_obeys_ends_by_its_own_exit_code() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("obey")?;
    let process = supervisor.spawn(
        "obedient",
        &shell("trap 'exit 5' TERM; echo ready; while :; do sleep 0.05; done"),
    )?;
    until("it is ready", async || process.log_tail() == "ready").await?;
    assert_eq!(
        process.terminate(LONG).await.and_then(|status| status.code()),
        Some(5)
    );
    Ok(())
}

#[tokio::test]
async fn terminate_program_that_ignores_it_is_killed_with_its_children() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("ignore")?;
    let marker = supervisor.directory().join("grandchild");
    let script = format!(
        "trap '' TERM; sh -c 'trap \"\" TERM; echo ready; while :; do sleep 0.05; done' {} ; :",
        marker.display()
    );
    let process = supervisor.spawn("stubborn", &shell(&script))?;
    until("it is ready", async || process.log_tail() == "ready").await?;
    let status = process
        .terminate(Duration::from_millis(200))
        .await
        .context("no status")?;
    assert_eq!(status.code(), None, "it must have been killed");
    until("the grandchild is gone", async || {
        processes_mentioning(&marker).is_empty()
    })
    .await
}

#[tokio::test]
async fn exit_of_the_leader_ends_what_it_left_behind() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("orphan")?;
    let marker = supervisor.directory().join("orphan");
    let process = supervisor.spawn(
        "parent",
        &shell(&format!("sh -c 'sleep 1000; :' {} & exit 0", marker.display())),
    )?;
    process.exited().await;
    until("the orphan is gone", async || {
        processes_mentioning(&marker).is_empty()
    })
    .await
}

#[tokio::test]
async fn drop_of_the_supervisor_leaves_nothing() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("drop")?;
    let folder = supervisor.directory().to_owned();
    let script = format!(
        "trap '' TERM; sh -c 'sleep 1000; :' {}",
        folder.join("x").display()
    );
    let process = supervisor.spawn("sleeper", &shell(&script))?;
    until("it runs", async || processes_mentioning(&folder).len() > 1).await?;
    drop(supervisor);
    assert!(!folder.exists(), "the folder must be gone when drop returns");
    assert_eq!(process.exited().await.and_then(|status| status.code()), None);
    until_nothing_is_left(&folder).await
}

#[tokio::test]
async fn panic_of_the_owner_keeps_the_logs_and_leaves_nothing_else() -> anyhow::Result<()> {
    let name = "panic";
    let supervisor = Supervisor::new(name)?;
    let folder = supervisor.directory().to_owned();
    let output = supervisor.spawn("talker", &shell("echo evidence"))?;
    output.exited().await;
    // Unwinds as a panic does, without its message on the screen.
    let ended = std::thread::spawn(move || {
        let _owned = supervisor;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(ended.join().is_err());
    assert!(!folder.exists());
    let kept = kept_logs(name, std::process::id());
    assert_eq!(std::fs::read_to_string(kept.join("talker.log"))?, "evidence\n");
    std::fs::remove_dir_all(kept)?;
    Ok(())
}

#[tokio::test]
async fn watchdog_that_is_killed_lets_nothing_be_started_and_the_folder_still_goes() -> anyhow::Result<()> {
    let supervisor = Supervisor::new("unwatched")?;
    let folder = supervisor.directory().to_owned();
    let watchdog = pid_of_process_mentioning(&folder).context("there is no watchdog")?;
    kill_process(watchdog, Signal::KILL)?;
    let proof = folder.join("started");
    let program = shell(&format!("touch {}", proof.display()));
    // The pipe breaks when the watchdog is gone, which the signal only begins.
    until("nothing is started any more", async || {
        drop(std::fs::remove_file(&proof));
        let Ok(process) = supervisor.spawn("unwatched", &program) else {
            return false;
        };
        process.exited().await.is_some_and(|status| !status.success()) && !proof.exists()
    })
    .await?;
    drop(supervisor);
    assert!(!folder.exists());
    Ok(())
}
