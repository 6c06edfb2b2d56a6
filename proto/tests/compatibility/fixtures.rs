//! The files of each version: read always, written once.

use std::path::PathBuf;

/// The versions that today's must understand.
pub(crate) const VERSIONS: [&str; 1] = ["0.1"];

fn folder(version: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests", "fixtures", version]
        .iter()
        .collect()
}

/// Writes a fixture of this version. One that exists stays.
pub(crate) fn record(name: &str, content: &[u8]) {
    let version = concat!(
        env!("CARGO_PKG_VERSION_MAJOR"),
        ".",
        env!("CARGO_PKG_VERSION_MINOR")
    );
    let path = folder(version).join(name);
    if !path.exists() {
        std::fs::create_dir_all(folder(version)).unwrap();
        std::fs::write(path, content).unwrap();
    }
}

pub(crate) fn fixture(version: &str, name: &str) -> Vec<u8> {
    let path = folder(version).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
