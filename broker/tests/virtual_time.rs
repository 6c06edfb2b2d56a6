//! The broker's own token engine in front of the simulated Azure, in virtual time: hours pass in seconds, and every call
//! is counted. Nothing is replaced but the socket between the two and the clock that both go by.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod virtual_time {
    mod broken_keys;
    mod early_death;
    mod fleet;
    mod holder;
    mod interference;
    mod outages;
    mod policy;
    mod renewal;
    mod rig;
    mod scene;
    mod sources;
    mod throttling;
    mod two_tenants;
}
