//! Requests that are under way, and what changes meanwhile.

mod deadline;
mod reload;
