//! The properties that the fuzzer tries to break, on the corpora that are checked in. `fuzz/run.sh` is the fuzzer.

#![allow(clippy::disallowed_methods, reason = "a test reads its files as a user does")]

use std::path::{Path, PathBuf};

use shardfuse_properties::{TARGETS, Target, memory};

mod wire;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

/// How many files of a corpus are accepted and refused. Each file's name is printed, so that a failure shows the last one.
fn replay(name: &str, target: Target) -> (usize, usize) {
    let (mut accepted, mut refused) = (0, 0);
    for entry in std::fs::read_dir(corpus(name)).unwrap() {
        let path = entry.unwrap().path();
        println!("{}", path.display());
        match target(&std::fs::read(&path).unwrap()) {
            true => accepted += 1,
            false => refused += 1,
        }
    }
    (accepted, refused)
}

#[test]
fn what_the_fuzzer_tries_to_break_holds_for_every_file_of_the_corpora() {
    for (name, target) in TARGETS {
        let (accepted, refused) = replay(name, target);
        assert!(accepted > 0 && refused > 0, "{name}: {accepted} files are accepted, {refused} are refused");
    }
}

#[test]
#[should_panic(expected = "bytes of memory")]
fn memory_beyond_the_bound_is_noticed() {
    memory::within(10, &[0; 1000], || vec![0u8; 100_000]);
}
