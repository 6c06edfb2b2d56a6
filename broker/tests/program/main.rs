//! The built program, from the outside: how it starts, what it withstands, how it ends.

mod attack;
mod drain;
mod grants;
mod process;
mod readiness;
