//! Runs the fuzz targets: every parser of foreign bytes against input that nobody meant well.
//!
//! A target is a test named `fuzz_<parser>_<invariant>` beside its parser: [`text`], [`bytes`] or [`document`] makes the
//! input, a check says what must hold of whatever comes out. `cargo test` gives it one round of cases, `make fuzz` as
//! many rounds as fit into `FUZZ_SECONDS`. A failing input is shrunk, and its seed is written into the crate's
//! `proptest-regressions/`, to be committed: it is tried first ever after.
//!
//! The stable toolchain has no coverage feedback. What stands in for it: input starts from real documents and is broken
//! in few places, so that most of it gets past the first check and some of it past the last.

mod document;
mod edit;

use std::{
    panic::Location,
    time::{Duration, Instant},
};

pub use document::document;
pub use edit::{bytes, text};
use proptest::{
    strategy::Strategy,
    test_runner::{Config, FileFailurePersistence, TestRunner},
};

/// Longest time that is spent on making a failing input smaller.
const SHRINK_MS: u32 = 20_000;

/// Runs a target: `check` panics on input for which the parser breaks its promise.
///
/// # Panics
/// With the smallest input that was found to break it.
#[track_caller]
pub fn fuzz<S: Strategy>(input: S, check: impl Fn(S::Value)) {
    let config = Config {
        source_file: Some(Location::caller().file()),
        failure_persistence: Some(Box::new(FileFailurePersistence::SourceParallel(
            "proptest-regressions",
        ))),
        max_shrink_time: SHRINK_MS,
        ..Config::default()
    };
    let (begun, budget) = (Instant::now(), budget());
    loop {
        // Each runner draws a seed of its own.
        let round = TestRunner::new(config.clone()).run(&input, |value| {
            check(value);
            Ok(())
        });
        assert!(
            round.is_ok(),
            "{}",
            round.map_or_else(|error| error.to_string(), |()| String::new())
        );
        if begun.elapsed() >= budget {
            return;
        }
    }
}

/// How long a target goes on. Without `FUZZ_SECONDS`: one round.
#[expect(
    clippy::disallowed_methods,
    reason = "a knob of the test run, not of a program"
)]
fn budget() -> Duration {
    let seconds = std::env::var("FUZZ_SECONDS").ok();
    seconds
        .map(|text| text.parse().expect("FUZZ_SECONDS must be a number of seconds"))
        .map_or(Duration::ZERO, Duration::from_secs)
}
