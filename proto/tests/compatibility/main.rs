//! Guarantee R5 on the wire: neighbouring versions understand each other.
//!
//! `tests/fixtures/<version>/` holds what a released version sent, and the shape of its contract. The files are recorded
//! once, at the release (`cargo test -p proto --test compatibility -- --ignored`), and never change afterwards: a test that
//! fails here means that the change breaks somebody, not that a file is old.

// `cfg(test)` always holds here: it tells the lints that all of this is test code.
#[cfg(test)]
mod contract;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod messages;
#[cfg(test)]
mod samples;
