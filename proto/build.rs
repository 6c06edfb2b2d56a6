//! Generates the messages, the gRPC services and the proto3 JSON mapping, without a system `protoc`.

use std::{env, fs, path::Path};

use protox::{
    Compiler,
    prost_reflect::{DescriptorPool, DynamicMessage},
};

const PACKAGE: &str = "acrpull.broker.v1";
const FILES: [&str; 2] = [
    "acrpull/broker/v1/credential_service.proto",
    "acrpull/broker/v1/fleet_service.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=acrpull");
    let mut compiler = Compiler::new(["."])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(FILES)?;
    let descriptor_bytes = compiler.encode_file_descriptor_set();
    let credential_messages = credential_messages(&compiler.descriptor_pool());
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?;
    let out_dir = Path::new(&out_dir);
    fs::write(out_dir.join("broker_descriptor.bin"), &descriptor_bytes)?;
    fs::write(
        out_dir.join("credential_messages.txt"),
        credential_messages.join("\n"),
    )?;

    let mut config = prost_build::Config::new();
    config
        .bytes(["."])
        .enable_type_names()
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .skip_debug(credential_messages.iter().map(|name| format!(".{name}")));
    // A server that stands in for the broker implements what it is asked for; that the broker has all of them is tested.
    tonic_prost_build::configure()
        .generate_default_stubs(true)
        .compile_fds_with_config(compiler.file_descriptor_set(), config)?;

    pbjson_build::Builder::new()
        .register_descriptors(&descriptor_bytes)?
        .build(&[format!(".{PACKAGE}")])?;
    Ok(())
}

/// Messages with a field that is marked `debug_redact`, by their full names. Their `Debug` is written by hand in
/// `src/redacted.rs`; without one the crate does not compile.
fn credential_messages(pool: &DescriptorPool) -> Vec<String> {
    let is_secret = |options: DynamicMessage| {
        let value = options.get_field_by_name("debug_redact");
        value.and_then(|value| value.as_bool()) == Some(true)
    };
    pool.all_messages()
        .filter(|message| message.fields().any(|field| is_secret(field.options())))
        .map(|message| message.full_name().to_owned())
        .collect()
}
