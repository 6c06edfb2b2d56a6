//! Keeps `docs/guarantees.md` true: the column of tests is written from the sources, and what the page claims beside it
//! is held against that. [`sources`] finds the tests, [`page`] reads, writes and judges the table.

pub mod page;
pub mod sources;

use std::path::PathBuf;

/// Every promise that the product makes. One that is not kept yet is on the page too, and says so.
pub const IDS: [&str; 43] = [
    "S1", "S2", "S3", "S4", "S5", "S6", "S7", "S8", "C1", "C2", "C3", "C4", "C5", "U1", "U2", "U3", "U4",
    "U5", "U6", "U7", "U8", "R1", "R2", "R3", "R4", "R5", "A1", "A2", "A3", "A4", "A5", "A6", "A7", "E1",
    "E2", "E3", "L1", "L2", "L3", "O1", "O2", "O3", "P1",
];

/// The root of the repository.
pub fn repository() -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", ".."].iter().collect()
}

/// The page.
pub fn page_path() -> PathBuf {
    repository().join("docs/guarantees.md")
}
