//! Promises about what leaves for Azure, proven over the real code in virtual time with a scripted transport.

mod clusters;
mod fairness;
mod one_call;
mod rig;
mod second_tries;
mod throttling;
mod unequal_calls;
