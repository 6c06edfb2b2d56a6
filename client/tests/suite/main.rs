//! The client against replicas that are restarted, killed, silenced and added, over real connections.

#![cfg(test)]

mod authority;
mod balance;
mod black_hole;
mod client_certificate;
mod load;
mod outages;
mod replica;
mod scene;
mod trust;
