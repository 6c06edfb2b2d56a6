//! Every test that crosses crates, in one binary: they share one stack, so that it starts once.

mod apis;
mod authentication;
mod bad_input;
mod broker_owned;
mod charts;
mod cluster_tokens;
mod core_dumps;
mod egress;
mod federation;
mod guard_rails;
mod isolation;
mod kubelet;
mod links;
mod manifests;
mod mutual_tls;
mod outages;
mod policies;
mod preflight;
mod pulls;
mod refresh;
mod secrets;
mod shared;
mod traces;
mod wire;
mod workloads;
mod zz_whole_run;
