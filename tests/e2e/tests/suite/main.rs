//! Every test that crosses crates, in one binary: they share one stack, so that it starts once.

mod shared;
mod workload_identity;
