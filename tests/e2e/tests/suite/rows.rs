//! What the peer (Azure/msi-acrpull) does wrong and this product does right, one test for each case that no other module
//! is about.

mod account_ref;
mod clouds;
mod identities;
mod neighbours;
mod registries;
mod selector;
mod sharing;
