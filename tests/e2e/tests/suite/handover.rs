//! The hand-over from Azure/msi-acrpull: what it leaves is taken over in place while Pods pull, a peer that still runs is
//! noticed, and nothing that it leaves hangs.
//!
//! The peer is re-created here from what it leaves and does on a real API server: see `handover::peer`.

mod both;
mod fixture;
mod leaving;
mod left;
mod one_by_one;
mod peer;
mod pulling;
