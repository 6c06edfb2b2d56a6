//! The built program, from the outside: how it starts, what it withstands, how it ends.

mod attack;
mod audit;
mod drain;
mod kept_keys;
mod process;
mod readiness;
