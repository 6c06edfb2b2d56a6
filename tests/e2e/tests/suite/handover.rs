//! The hand-over from Azure/msi-acrpull: what it leaves is taken over in place while Pods pull, a peer that still runs is
//! noticed, and nothing that it leaves hangs.
//!
//! Most tests play the peer, from what it leaves and does on a real API server (`handover::peer`): they can put it into any
//! state. `handover::real` has the program itself, and holds the one to the other.

mod both;
mod fixture;
mod leaving;
mod left;
mod msi_acrpull;
mod one_by_one;
mod peer;
mod pulling;
mod real;
