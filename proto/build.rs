//! Generates the messages, the gRPC service and the proto3 JSON mapping, without a system `protoc`.

use std::{env, fs, path::Path};

use prost::Message as _;

const PACKAGE: &str = ".acrpull.broker.v1";

/// Messages that carry a credential: they get a hand-written `Debug` that prints none of it (`src/redacted.rs`).
const CREDENTIAL_MESSAGES: [&str; 3] = [
    "GetDockerConfigRequest",
    "FederatedIdentity",
    "GetDockerConfigResponse",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=acrpull");
    let descriptors = protox::compile(["acrpull/broker/v1/credential_service.proto"], ["."])?;
    let descriptor_bytes = descriptors.encode_to_vec();
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let descriptor_path = Path::new(&out_dir).join("broker_descriptor.bin");
    fs::write(descriptor_path, &descriptor_bytes)?;

    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .skip_debug(CREDENTIAL_MESSAGES.map(|name| format!("{PACKAGE}.{name}")));
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;

    pbjson_build::Builder::new()
        .register_descriptors(&descriptor_bytes)?
        .build(&[PACKAGE])?;
    Ok(())
}
