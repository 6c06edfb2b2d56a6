//! What the peer (Azure/msi-acrpull) does wrong and this product does right, one test for each case that no other module
//! is about.

mod clouds;
mod identities;
mod neighbours;
mod registries;
mod selector;
