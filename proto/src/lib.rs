//! The wire contract of the broker: generated messages and services, the catalogue of reasons, and the words
//! that broker, client and syncer share. No I/O, no async runtime, no Kubernetes client.
//!
//! - [`v1`]: messages and services of `acrpull.broker.v1`, with the proto3 JSON mapping for the HTTP twin.
//! - [`catalogue`]: every reason for which something is refused or fails, once.
//! - [`types`]: registry host, scope, identity and tenant ids: parsed once, canonical ever after.
//! - [`fingerprint`]: how two parties compare payloads without showing them.

pub mod catalogue;
pub mod fingerprint;
mod redacted;
pub mod time;
pub mod types;
mod wiped;

use std::sync::LazyLock;

pub use catalogue::Reason;
pub use fingerprint::Fingerprint;
use prost::Message as _;

/// Messages and services of package `acrpull.broker.v1`.
#[expect(
    unused_qualifications,
    clippy::all,
    clippy::pedantic,
    clippy::nursery,
    clippy::restriction,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("acrpull.broker.v1");
    include!(concat!(env!("OUT_DIR"), "/acrpull.broker.v1.serde.rs"));
}

/// The serialized `FileDescriptorSet` of this package, for server reflection and for tests of the contract.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/broker_descriptor.bin"));

/// The same, decoded, with the comments of the contract: what the OpenAPI document is made of.
pub fn descriptors() -> &'static prost_types::FileDescriptorSet {
    static DECODED: LazyLock<prost_types::FileDescriptorSet> = LazyLock::new(|| {
        prost_types::FileDescriptorSet::decode(FILE_DESCRIPTOR_SET)
            .expect("what build.rs has encoded must decode")
    });
    &DECODED
}

/// The domain in `google.rpc.ErrorInfo`.
pub const ERROR_DOMAIN: &str = "acrpull.dev";

/// The largest message that either side sends or accepts, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// The longest time that the broker works on a call, and the time that a call without a deadline gets.
pub const MAX_DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);
