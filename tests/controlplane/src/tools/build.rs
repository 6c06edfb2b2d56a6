//! Builds tools with Go from the pinned modules, once per user: one builder at a time, and never half a binary.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use tokio::time::{Instant, MissedTickBehavior};

use super::catalogue::Tool;
use super::search::Places;
use super::version::Version;
use crate::supervisor::{Program, Supervisor};

/// How often a running build says that it is alive.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(15);

/// How often the lock is tried while another builder holds it.
const LOCK_INTERVAL: Duration = Duration::from_millis(200);

/// A build that takes longer hangs: the slowest took 6 minutes on two cores, download included.
const BUILD_TIMEOUT: Duration = Duration::from_hours(1);

/// The end of the name of a binary that is not complete yet.
const PARTIAL_SUFFIX: &str = ".partial";

/// Builds those of `wanted` that the cache still lacks.
///
/// # Errors
/// Go is not there, the cache cannot be written, or a build fails.
pub(super) async fn build(places: &Places, wanted: &[(Tool, Version)]) -> anyhow::Result<()> {
    let Some(go) = places.on_path("go") else {
        let names: Vec<_> = wanted.iter().map(|(tool, _)| tool.name()).collect();
        bail!(
            "{} not found and no Go to build with: install Go 1.26 or later, or set KUBEBUILDER_ASSETS to a folder \
             that has them",
            names.join(", ")
        );
    };
    fs::create_dir_all(&places.cache)
        .with_context(|| format!("failed to create the cache folder {}", places.cache.display()))?;
    // Held until the end of this function, and released by the kernel if this process dies.
    let _lock = lock(&places.cache.join("lock")).await?;
    // Another builder may have made them while this one waited.
    let missing: Vec<_> = wanted
        .iter()
        .filter(|(tool, version)| !places.cached_path(*tool, *version).is_file())
        .collect();
    let seconds: u64 = missing
        .iter()
        .map(|(tool, _)| tool.cold_build_time().as_secs())
        .sum();
    if !missing.is_empty() {
        say(&format!(
            "building {} of {} tools with Go, once: about {} minutes on two cores the first time; kept in {}",
            missing.len(),
            Tool::ALL.len(),
            seconds.div_ceil(60),
            places.cache.display()
        ));
    }
    // Go and its compilers end with this process, even if it is killed.
    let supervisor = Supervisor::new("tool-build")?;
    for (position, (tool, version)) in (1_usize..).zip(&missing) {
        let step = format!("{} v{version} ({position} of {})", tool.name(), missing.len());
        build_one(
            &supervisor,
            &go,
            *tool,
            *version,
            &places.cached_path(*tool, *version),
            &step,
        )
        .await?;
    }
    Ok(())
}

async fn build_one(
    supervisor: &Supervisor,
    go: &Path,
    tool: Tool,
    version: Version,
    target: &Path,
    step: &str,
) -> anyhow::Result<()> {
    let partial = partial_path(target);
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder).with_context(|| format!("failed to create {}", folder.display()))?;
    }
    let program = Program::new(go)
        .args([
            "build",
            "-trimpath",
            "-ldflags",
            &tool.linker_flags(version),
            "-o",
        ])
        .arg(&partial)
        .arg(tool.package())
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly")
        .env("GOWORK", "off")
        .without_env("GOOS")
        .without_env("GOARCH")
        .current_dir(
            Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("go")
                .join(tool.module().folder),
        );
    say(&format!("building {step}"));
    let started_at = Instant::now();
    let mut progress = tokio::time::interval_at(started_at + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
    progress.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let run = supervisor.run(&program, BUILD_TIMEOUT);
    tokio::pin!(run);
    let output = loop {
        tokio::select! {
            output = &mut run => break output,
            _ = progress.tick() => say(&format!("building {step}: {} s", started_at.elapsed().as_secs())),
        }
    };
    output
        .and_then(crate::supervisor::Output::success)
        .with_context(|| {
            format!(
                "failed to build {step} with {}; Go 1.26 or later is needed",
                go.display()
            )
        })?;
    // On the disk before it gets its name: a machine that stops must not leave an empty file under it.
    File::open(&partial)
        .and_then(|binary| binary.sync_all())
        .with_context(|| format!("{} said it built {step}, but wrote nothing", go.display()))?;
    fs::rename(&partial, target).with_context(|| format!("failed to name {}", target.display()))?;
    say(&format!("built {step} in {} s", started_at.elapsed().as_secs()));
    Ok(())
}

/// Takes the lock of the cache, waiting as long as another builder works.
async fn lock(path: &Path) -> anyhow::Result<File> {
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .with_context(|| format!("failed to open {}", path.display()))?;
    let mut announced = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error).with_context(|| format!("failed to lock {}", path.display())),
        }
        if !announced {
            say(&format!(
                "waiting for another process that builds the tools ({} is locked)",
                path.display()
            ));
            announced = true;
        }
        tokio::time::sleep(LOCK_INTERVAL).await;
    }
}

/// A fixed name: what an interrupted build left is overwritten by the next, and the lock lets only one write.
fn partial_path(target: &Path) -> PathBuf {
    let mut name = target.as_os_str().to_owned();
    name.push(PARTIAL_SUFFIX);
    PathBuf::from(name)
}

/// Tells a person who waits. Written to the stream itself, because a test's captured output would show
/// minutes late.
fn say(line: &str) {
    drop(writeln!(io::stderr(), "tools: {line}"));
}
