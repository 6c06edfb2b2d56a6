//! The simulator as its clients see it: real sockets, real TLS, real HTTP. Decisions have tests of their own
//! beside them; these show that what is decided arrives, and that faults do to a client what they say.

#[path = "over_sockets/azure.rs"]
mod azure;
#[path = "over_sockets/broken.rs"]
mod broken;
#[path = "over_sockets/content.rs"]
mod content;
#[path = "over_sockets/credentials.rs"]
mod credentials;
#[path = "over_sockets/documents.rs"]
mod documents;
#[path = "over_sockets/faults.rs"]
mod faults;
#[path = "over_sockets/issuers.rs"]
mod issuers;
#[path = "over_sockets/observation.rs"]
mod observation;
#[path = "over_sockets/program.rs"]
mod program;
#[path = "over_sockets/proxy.rs"]
mod proxy;
#[path = "over_sockets/real_registry.rs"]
mod real_registry;
