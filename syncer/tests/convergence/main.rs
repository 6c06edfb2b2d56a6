//! Whatever bindings, Secrets and ServiceAccounts look like, and whatever went wrong before: the plan brings them to the
//! one right state in a bounded number of passes and then does nothing, and it never touches what is somebody else's.
//!
//! The decisions are the product's own, through its public pure functions, and so is the routing of what the watches show.
//! What stands around them here is small: the API server as far as the decisions depend on it ([`server`]), the broker
//! ([`broker`]), watches that lag ([`feeds`]), processes that come, go and overlap ([`takeover`]), and the order of the
//! steps of a pass ([`pass`]). Not here are bindings that go with the peer's finalizer on them, Secrets that may not be
//! read, and a clock that runs ahead. What no write may do is in [`judge`], and what is right in [`right`].
//!
//! Each case has a number, and the same number is the same case. `CONVERGENCE_FIRST` is the number of the first, zero if it
//! is not set, and `CONVERGENCE_CASES` how many there are.

// `cfg(test)` always holds here: it tells the lints that all of this is test code.
#[cfg(test)]
mod broker;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod clock;
#[cfg(test)]
mod disturb;
#[cfg(test)]
mod draws;
#[cfg(test)]
mod feeds;
#[cfg(test)]
mod fields;
#[cfg(test)]
mod found;
#[cfg(test)]
mod judge;
#[cfg(test)]
mod keeper;
#[cfg(test)]
mod meaning;
#[cfg(test)]
mod numbered;
#[cfg(test)]
mod pass;
#[cfg(test)]
mod patches;
#[cfg(test)]
mod process;
#[cfg(test)]
mod report;
#[cfg(test)]
mod right;
#[cfg(test)]
mod server;
#[cfg(test)]
mod settling;
#[cfg(test)]
mod steps;
#[cfg(test)]
mod takeover;
#[cfg(test)]
mod world;
#[cfg(test)]
mod written;
