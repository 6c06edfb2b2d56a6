//! A core dump would hold every token and key of the process: there is none (guarantee L2).
//!
//! Memory that is swapped out is not in this file's reach: nodes run without swap, or with an encrypted one.

use rustix::{
    io,
    process::{Resource, Rlimit, setrlimit},
};

use crate::Failure;

/// Forbids core dumps, and other users' debuggers with them. Call it first in `main`, before anything secret is read.
///
/// # Errors
/// The kernel or its sandbox refuses. That is no reason to go on: container runtimes allow both calls by default.
pub fn forbid() -> Result<(), Failure> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)
        .and_then(|()| forbid_dumping())
        .map_err(|error| {
            Failure::runtime("cannot forbid core dumps")
                .remedy("let the sandbox of the process allow setrlimit and prctl, as RuntimeDefault does")
                .source(error)
        })
}

/// The limit alone does not bind a kernel that pipes core dumps to a program. This does, and makes the files below
/// `/proc/<pid>` root's, so that no process of the same user reads the memory of this one.
#[cfg(target_os = "linux")]
fn forbid_dumping() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
}

/// Only Linux knows more than the limit.
#[cfg(not(target_os = "linux"))]
fn forbid_dumping() -> io::Result<()> {
    Ok(())
}
