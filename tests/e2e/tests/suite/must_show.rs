//! What everybody asks for first, measured on the real API server: how soon a late grant counts, what a failure that goes
//! on costs, how often a Secret is written. Each takes a minute or two, beside all others. The rest of that list is in
//! `isolation`.

mod changed;
mod expiry;
mod failures;
mod replicas;
