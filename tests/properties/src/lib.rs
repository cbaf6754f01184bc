//! What must hold for any bytes that come from elsewhere: files of a model or an adapter, requests, assignments.
//!
//! One file a target. Each has a function `holds`: it takes any bytes, panics where the property is broken, and says whether the
//! bytes were accepted. libFuzzer runs them (`fuzz/run.sh`), and `cargo test --test corpora` runs them on the corpora.

pub mod assignment;
pub mod config;
pub mod header;
pub mod index;
pub mod memory;
pub mod patterns;
pub mod pickle;
pub mod spec;

/// Holds a property against bytes. `true` if the bytes were accepted, and so the whole property was checked.
pub type Target = fn(&[u8]) -> bool;

/// All targets, by the name of their corpus.
pub const TARGETS: [(&str, Target); 7] = [
    ("assignment", assignment::holds),
    ("config", config::holds),
    ("header", header::holds),
    ("index", index::holds),
    ("patterns", patterns::holds),
    ("pickle", pickle::holds),
    ("spec", spec::holds),
];
