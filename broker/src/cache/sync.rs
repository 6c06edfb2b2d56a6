//! The primitives that [`super::flights`] is built on. The model checker's test replaces this file, and nothing else.

pub(super) use std::sync::{Arc, Mutex, PoisonError};
