//! Both APIs: whatever holds for the bindings of one holds for those of the other. Each scenario is played for both.

mod accounts;
mod changes;
mod contested;
mod defaults;
mod ends;
mod foreign;
mod installed;
mod life;
mod neighbours;
mod open_questions;
mod ratchet;
mod requests;
mod secrets;
mod waited;

use crate::side::{ACCOUNT, OWN, SCOPE, Side, in_both_apis};
