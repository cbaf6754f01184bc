//! A Job's pods.

use std::path::Path;
use std::process::Command;

use shardfuse_testkit::checkpoint::{Model, lora};

use crate::tool::{command, run, succeed};

/// A port on which nobody listens: the discard service's.
const NOBODY: &str = "http://127.0.0.1:9";

fn pod(index: &str, at: &Path, coordinator: &str) -> Command {
    let mut pod = command();
    pod.args(["job", "--index", index, "--coordinator", coordinator, "--listen", "127.0.0.1:0"]);
    pod.args(["--part-size", "4KiB", "--memory", "32MiB", "--device", "cpu"]);
    for (flag, folder) in [("--base", "base"), ("--lora", "lora"), ("--output", "out")] {
        pod.arg(flag).arg(at.join(folder));
    }
    pod
}

#[test]
fn a_pod_that_starts_after_the_merge_is_published_ends_with_success() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::SMALL;
    model.write(&dir.path().join("base"));
    lora(&dir.path().join("lora"), &model, 4, "a");
    succeed(&mut pod("0", dir.path(), NOBODY));
    // Index 0 is gone, and answers nobody.
    let late = run(&mut pod("1", dir.path(), NOBODY));
    assert!(late.status.success(), "{}", String::from_utf8_lossy(&late.stderr));
}
