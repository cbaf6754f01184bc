//! An adapter that changes nothing ends the merge before anything is published.

use std::path::Path;

use safetensors::Dtype;
use shardfuse_testkit::checkpoint::{encode, read, write};

use crate::output::{assert_same, everything};
use crate::small::Small;
use crate::tool::{fail, merge, succeed};

impl Small {
    /// An adapter whose left factors are multiplied by this.
    fn scaled(&self, name: &str, by: f32) -> String {
        let dir = self.adapter(name);
        let file = self.at(name).join("adapter_model.safetensors");
        let mut tensors = read(&file);
        for tensor in tensors.iter_mut().filter(|tensor| tensor.name.contains("lora_B")) {
            let values = tensor.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b) * by);
            tensor.bytes = encode(Dtype::F32, &values.collect::<Vec<_>>());
        }
        write(&file, &tensors);
        dir
    }
}

fn published(output: &Path) -> bool {
    everything(output).keys().any(|name| !name.starts_with(".shardfuse"))
}

#[test]
fn an_untrained_adapter_is_named_before_publication_and_the_same_command_may_publish() {
    let case = Small::new();
    let (untrained, output) = (case.scaled("untrained", 0.0), case.at("out"));
    let (code, kind, text) = fail(&mut merge(&case.base, &[&untrained], &output));
    assert_eq!((code, kind.as_str()), (3, "no_change"), "{text}");
    for part in
        ["adapter 1", &untrained, "6 tensors", "all its deltas are zero", "before it was trained", "--allow-no-change"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!published(&output) && output.join(".shardfuse/plan").exists(), "the state is kept");

    let text = succeed(merge(&case.base, &[&untrained], &case.at("allowed")).arg("--allow-no-change"));
    let note =
        format!("note: adapter 1 ({untrained}) changes nothing in any of its 6 tensors: all its deltas are zero\n");
    assert!(text.contains(&note), "{text}");

    let told = succeed(merge(&case.base, &[&untrained], &output).args(["--allow-no-change", "--format", "json"]));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["parts_written"], 0, "nothing is made twice");
    assert!(told["notes"].to_string().contains("changes nothing"), "{told}");
    assert!(published(&output));
}

#[test]
fn deltas_below_the_dtype_are_told_from_zero_and_a_finer_dtype_holds_them() {
    let case = Small::new();
    let (tiny, output) = (case.scaled("tiny", 1e-7), case.at("out"));
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
    let case = Small::new();
    let (trained, untrained) = (case.scaled("trained", 1.0), case.scaled("untrained", 0.0));
    let (_, kind, text) = fail(&mut merge(&case.base, &[&trained, &untrained], &case.at("out")));
    assert_eq!(kind, "no_change");
    assert!(text.contains("adapter 2") && !text.contains("adapter 1"), "{text}");
}

#[test]
fn a_weight_of_zero_is_what_was_asked_for() {
    let case = Small::new();
    let (trained, untrained) = (case.scaled("trained", 1.0), case.scaled("untrained", 0.0));
    let (alone, both) = (case.at("alone"), case.at("both"));
    succeed(merge(&case.base, &[&trained], &alone).args(["--card", "none"]));
    let unused = format!("{untrained}=0");
    succeed(merge(&case.base, &[&trained, &unused], &both).args(["--card", "none"]));
    assert_same(&alone, &both);
    succeed(&mut merge(&case.base, &[&format!("{trained}=0")], &case.at("none")));
}
