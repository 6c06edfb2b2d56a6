//! The built program, from the outside: how it starts, what it withstands, how it ends.

mod attack;
mod audit;
mod drain;
mod grants;
mod kept_keys;
mod key_roots;
mod process;
mod readiness;
