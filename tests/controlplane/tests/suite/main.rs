//! The tests of this crate, on real processes. One binary, so that all of them share one control plane.

mod leftovers;
mod plane;
mod registry;
mod second_plane;
mod supervisor;
mod tools;
mod waiting;
