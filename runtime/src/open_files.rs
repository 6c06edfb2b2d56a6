//! How many files this process may have open: sockets are files, and running out of them is an outage.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the most that is allowed, and says how many that is. Shells and service managers start processes
/// with a soft limit of 1,024 for the sake of `select`, which nothing here uses.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = Rlimit {
        current: maximum,
        maximum,
    };
    let current = match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit on open files");
            current
        }
    };
    current.unwrap_or(u64::MAX)
}
