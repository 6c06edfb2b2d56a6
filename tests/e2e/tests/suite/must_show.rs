//! What everybody asks for first, measured on the real API server: how soon the link is there, how soon a late grant
//! counts, what a failure that goes on costs. Those that take a minute or more do so beside all others.

mod failures;
mod link;
mod replicas;
