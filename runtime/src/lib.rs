//! What both binaries need and neither is about: telemetry, the admin server, shutdown, supervised tasks, TLS,
//! secrets, time. Knows neither Azure nor AcrPullBinding nor the broker's contract.
//!
//! A binary is put together from these in its `lib.rs`: parse arguments, [`telemetry::init`], bind every listener
//! ([`listen`]), spawn every task ([`tasks`]), then wait for [`tasks::Tasks::run_until_done`].

pub mod admin;
pub mod build_info;
pub mod clock;
pub mod core_dumps;
pub mod error_chain;
pub mod failure;
pub mod file_watch;
pub mod listen;
pub mod never_shown;
pub mod open_files;
mod panics;
pub mod retry_after;
pub mod secret;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;
pub mod tls;

pub use clock::{Clock, Moment, SystemClock};
pub use failure::Failure;
pub use secret::Secret;
pub use shutdown::Shutdown;
pub use tasks::Tasks;
