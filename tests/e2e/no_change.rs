//! An adapter that changes nothing ends the merge before anything is published.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use shardfuse_testkit::checkpoint::{Model, encode, lora, read, write};

use crate::output::{assert_same, everything};
use crate::tool::{fail, merge, succeed};

struct Case {
    dir: tempfile::TempDir,
    base: PathBuf,
}

impl Case {
    fn new() -> Case {
        let dir = tempfile::tempdir().unwrap();
        let base = Model::SMALL.write(&dir.path().join("base"));
        Case { dir, base }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// An adapter whose left factors are multiplied by this.
    fn adapter(&self, name: &str, by: f32) -> String {
        let dir = lora(&self.at(name), &Model::SMALL, 2, name);
        let file = dir.join("adapter_model.safetensors");
        let mut tensors = read(&file);
        for tensor in tensors.iter_mut().filter(|tensor| tensor.name.contains("lora_B")) {
            let values = tensor.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b) * by);
            tensor.bytes = encode(Dtype::F32, &values.collect::<Vec<_>>());
        }
        write(&file, &tensors);
        dir.to_str().unwrap().to_owned()
    }
}

fn published(output: &Path) -> bool {
    everything(output).keys().any(|name| !name.starts_with(".shardfuse"))
}

#[test]
fn an_untrained_adapter_is_named_before_publication_and_the_same_command_may_publish() {
    let case = Case::new();
    let (untrained, output) = (case.adapter("untrained", 0.0), case.at("out"));
    let (code, kind, text) = fail(&mut merge(&case.base, &[&untrained], &output));
    assert_eq!((code, kind.as_str()), (3, "no_change"), "{text}");
    for part in
        ["adapter 1", &untrained, "6 tensors", "all its deltas are zero", "before it was trained", "--allow-no-change"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!published(&output) && output.join(".shardfuse/plan").exists(), "the state is kept");

    let told = succeed(merge(&case.base, &[&untrained], &output).args(["--allow-no-change", "--format", "json"]));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["parts_written"], 0, "nothing is made twice");
    assert!(told["notes"].to_string().contains("changes nothing"), "{told}");
    assert!(published(&output));
}

#[test]
fn deltas_below_the_dtype_are_told_from_zero_and_a_finer_dtype_holds_them() {
    let case = Case::new();
    let (tiny, output) = (case.adapter("tiny", 1e-7), case.at("out"));
    let (code, kind, text) = fail(&mut merge(&case.base, &[&tiny], &output));
    assert_eq!((code, kind.as_str()), (3, "no_change"), "{text}");
    assert!(
        text.contains("too small for the output's dtype, the largest is ") && text.contains("--dtype f32"),
        "{text}"
    );
    succeed(merge(&case.base, &[&tiny], &case.at("f32")).args(["--dtype", "f32"]));
}

#[test]
fn of_several_adapters_the_idle_one_is_named() {
    let case = Case::new();
    let (trained, untrained) = (case.adapter("trained", 1.0), case.adapter("untrained", 0.0));
    let (_, kind, text) = fail(&mut merge(&case.base, &[&trained, &untrained], &case.at("out")));
    assert_eq!(kind, "no_change");
    assert!(text.contains("adapter 2") && !text.contains("adapter 1"), "{text}");
}

#[test]
fn a_weight_of_zero_is_what_was_asked_for() {
    let case = Case::new();
    let (trained, untrained) = (case.adapter("trained", 1.0), case.adapter("untrained", 0.0));
    let (alone, both) = (case.at("alone"), case.at("both"));
    succeed(merge(&case.base, &[&trained], &alone).args(["--card", "none"]));
    let unused = format!("{untrained}=0");
    succeed(merge(&case.base, &[&trained, &unused], &both).args(["--card", "none"]));
    assert_same(&alone, &both);
    succeed(&mut merge(&case.base, &[&format!("{trained}=0")], &case.at("none")));
}
