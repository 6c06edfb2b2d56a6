//! `syncer preflight`: looks at a cluster for the person who is about to install, or to hand over from Azure/msi-acrpull, and
//! says what is in the way, what would change, and what the broker has to grant. It writes nothing, ever, and reads no
//! content of a Secret.
//!
//! `read` asks the API server, with deadlines and by pages, and fills a `world`. The rest is pure: `assess` asks the
//! syncer's own code what it would make of each binding, `findings`, `changes` and `grants` say what follows, `report` prints it.

mod assess;
mod changes;
mod findings;
mod grants;
mod object;
mod read;
mod report;
#[cfg(test)]
mod scene;
mod world;

use std::process::ExitCode;

use k8s_openapi::jiff::Timestamp;
use runtime::{Clock as _, Failure, SystemClock};

use self::report::Report;
use crate::args::PreflightArgs;

/// Prints the report. The exit code says it too: 0 if nothing is in the way, 1 if something is.
///
/// # Errors
/// The cluster cannot be read.
#[expect(clippy::print_stdout, reason = "the answer of a command")]
pub(crate) async fn run(args: &PreflightArgs) -> Result<ExitCode, Failure> {
    let world = read::world(args).await?;
    let now = Timestamp::try_from(SystemClock.now()).unwrap_or_default();
    let report = Report::of(&world, args, now);
    let shown = report
        .shown(args)
        .map_err(|error| Failure::unavailable("cannot print the report").source(error))?;
    print!("{shown}");
    Ok(if report.is_blocked() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}
