//! Whatever bindings, Secrets and ServiceAccounts look like, and whatever went wrong before: the plan brings them to the
//! one right state in a bounded number of passes and then does nothing, and it never touches what is somebody else's.
//!
//! The decisions are the product's own, through its public pure functions. What stands around them here is small: the
//! API server as far as the decisions depend on it ([`server`]), the broker ([`broker`]), and the order of the steps of a
//! pass ([`pass`]). There is no lag of a watch, and no second process.

// `cfg(test)` always holds here: it tells the lints that all of this is test code.
#[cfg(test)]
mod broker;
#[cfg(test)]
mod cases;
#[cfg(test)]
mod disturb;
#[cfg(test)]
mod found;
#[cfg(test)]
mod pass;
#[cfg(test)]
mod right;
#[cfg(test)]
mod server;
#[cfg(test)]
mod settling;
#[cfg(test)]
mod world;
