//! The way of whole requests: who is let through, as what, and what changes meanwhile.

mod deadline;
mod forged;
mod record;
mod reload;
mod workload;
