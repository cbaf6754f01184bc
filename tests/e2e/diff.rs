//! `shardfuse diff`: what a merge did, and whether that is what the adapter says.

use std::path::{Path, PathBuf};
use std::process::Command;

use safetensors::Dtype;
use serde_json::{Value, json};
use shardfuse_testkit::checkpoint::{Model, encode, lora_with, read, tensor, write};

use crate::small::Small;
use crate::tool::{command, fail, merge, run, succeed};

impl Small {
    fn merged(&self, name: &str, lora: &str, flags: &[&str]) -> PathBuf {
        let output = self.at(name);
        succeed(merge(&self.base, &[lora], &output).args(flags));
        output
    }

    fn diff(&self, after: &Path) -> Command {
        let mut diff = command();
        diff.arg("diff").arg(&self.base).arg(after).args(["--memory", "1MiB", "--error-format", "json"]);
        diff
    }

    fn json(&self, after: &Path, flags: &[&str]) -> Value {
        serde_json::from_str(&succeed(self.diff(after).args(["--format", "json"]).args(flags))).unwrap()
    }

    /// What `--expect` says of another checkpoint: the message and the hint.
    fn unexpected(&self, after: &Path, expect: &str) -> String {
        let (code, kind, text) = fail(self.diff(after).args(["--expect", expect]));
        assert_eq!((code, kind.as_str()), (1, "verify_failed"), "{text}");
        text
    }
}

fn of<'a>(diff: &'a Value, name: &str) -> &'a Value {
    diff["tensors"].as_array().unwrap().iter().find(|t| t["tensor"] == name).unwrap_or_else(|| panic!("{name}: {diff}"))
}

const Q: &str = "model.layers.0.self_attn.q_proj.weight";

#[test]
fn every_changed_tensor_has_its_norm_its_share_and_its_largest_element() {
    let case = Small::new();
    let output = case.merged("out", &case.adapter("a"), &["--dtype", "f32"]);
    let diff = case.json(&output, &[]);
    assert_eq!(diff["tensors_differ"], 6);
    let values = |dir: &Path| crate::output::tensor(dir, Q).2.iter().map(|v| f64::from(*v)).collect::<Vec<_>>();
    let (before, after) = (values(&case.base), values(&output));
    let delta: Vec<f64> = before.iter().zip(&after).map(|(before, after)| after - before).collect();
    let norm = |all: &[f64]| all.iter().map(|v| v * v).sum::<f64>().sqrt();
    let (at, largest) = delta.iter().map(|d| d.abs()).enumerate().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    let found = of(&diff, Q);
    let near = |key: &str, want: f64| (found[key].as_f64().unwrap() / want - 1.0).abs() < 1e-9;
    assert!(near("relative", norm(&delta) / norm(&before)) && near("largest", largest), "{found}");
    assert_eq!(found["changed"], delta.iter().filter(|d| **d != 0.0).count());
    assert_eq!(found["at"], json!([at / 64, at % 64]));
    assert_eq!(found["stored"], json!(["BF16", "F32"]));
    let same = of(&diff, "lm_head.weight");
    assert_eq!((&same["changed"], &same["relative"]), (&json!(0), &json!(0.0)));

    let text = succeed(&mut case.diff(&output));
    assert!(text.contains("model.layers.*.self_attn.q_proj.weight") && text.contains("2 of 2"), "{text}");
    assert!(text.ends_with("6 of 10 tensors differ, 4 are the same\n"), "{text}");
    assert!(succeed(case.diff(&output).arg("--all")).contains("lm_head.weight"));
    assert!(succeed(&mut case.diff(&case.base.clone())).ends_with("0 of 10 tensors differ, 10 are the same\n"));
}

#[test]
fn grown_tensors_are_compared_where_both_have_rows_and_lacking_ones_are_named() {
    let case = Small::new();
    let saved = |module: &str| {
        tensor(&format!("base_model.model.{module}.modules_to_save.weight"), Dtype::F16, &[104, Model::SMALL.hidden])
    };
    let config = json!({"modules_to_save": ["embed_tokens", "lm_head"]});
    let grows = lora_with(
        &case.at("grows"),
        &Model::SMALL,
        2,
        "g",
        config,
        vec![saved("model.embed_tokens"), saved("lm_head")],
    );
    let grows = grows.to_str().unwrap();
    let output = case.merged("out", grows, &[]);
    let diff = case.json(&output, &["--expect", grows]);
    assert_eq!(of(&diff, "lm_head.weight")["rows_only"], json!([0, 8]));
    assert_eq!(diff["expected"]["fits"], true, "{}", diff["expected"]);

    let file = output.join("model-00001-of-00002.safetensors");
    let mut tensors = read(&file);
    tensors.retain(|t| t.name != Q);
    write(&file, &tensors);
    let index = output.join("model.safetensors.index.json");
    let mut named: Value = serde_json::from_slice(&std::fs::read(&index).unwrap()).unwrap();
    named["weight_map"].as_object_mut().unwrap().remove(Q);
    std::fs::write(&index, named.to_string()).unwrap();
    assert!(succeed(&mut case.diff(&output)).contains(&format!("only before: {Q}")));
    assert!(case.unexpected(&output, grows).contains("lacks it"));
}

#[test]
fn expect_knows_the_adapter_its_weight_and_every_way_to_miss_it() {
    let case = Small::new();
    let (mine, other) = (case.adapter("mine"), case.adapter("other"));
    for dtype in ["bf16", "f32"] {
        let output = case.merged(dtype, &mine, &["--dtype", dtype]);
        let diff = case.json(&output, &["--expect", &mine]);
        assert_eq!(diff["expected"]["fits"], true, "{}", diff["expected"]);
        let cosines = diff["expected"]["tensors"].as_array().unwrap().iter().map(|t| t["cosine"].as_f64().unwrap());
        assert!(cosines.fold(1.0, f64::min) > 0.9999, "{}", diff["expected"]);
        assert!(case.unexpected(&output, &other).contains("nothing to do with"));
        assert!(case.unexpected(&output, &format!("{mine}=0.5")).contains("doubled in 6 of 6 tensors"));
        assert!(case.unexpected(&output, &format!("{mine}=2")).contains("half of the change"));
    }
    let lost = case.unexpected(&case.base.clone(), &mine);
    assert!(lost.contains("lost") && lost.contains("ratio 0.00"), "{lost}");
    let half = case.merged("half", &format!("{mine}=0.5"), &[]);
    succeed(case.diff(&half).args(["--expect", &format!("{mine}=0.5")]));

    // One tensor that nobody meant to change.
    let output = case.merged("touched", &mine, &[]);
    let file = output.join("model-00002-of-00002.safetensors");
    let mut tensors = read(&file);
    let head = tensors.iter_mut().find(|t| t.name == "lm_head.weight").unwrap();
    head.bytes[..2].copy_from_slice(&encode(Dtype::BF16, &[9.0]));
    write(&file, &tensors);
    let text = case.unexpected(&output, &mine);
    assert!(text.contains("no change was expected in 1 of 7 tensors, such as lm_head.weight"), "{text}");
}

#[test]
fn two_adapters_are_expected_together() {
    let case = Small::new();
    let (one, two) = (case.adapter("one"), case.adapter("two"));
    let output = case.at("out");
    succeed(&mut merge(&case.base, &[&one, &two], &output));
    succeed(case.diff(&output).args(["--expect", &one, "--expect", &two]));
    let text = case.unexpected(&output, &one);
    assert!(text.contains("another one") || text.contains("noise"), "{text}");
}

#[test]
fn an_order_of_adapters_counts_where_it_changes_more_than_the_limits() {
    let case = Small::new();
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let [base, lora, dora] = ["tiny-llama", "lora-dialogue", "dora-orders"].map(|name| examples.join(name));
    let output = case.at("out");
    succeed(&mut merge(&base, &[lora.to_str().unwrap(), dora.to_str().unwrap()], &output));
    let diff = |[one, two]: [&Path; 2]| {
        let mut diff = command();
        diff.arg("diff").arg(&base).arg(&output).arg("--expect").arg(one).arg("--expect").arg(two);
        diff.args(["--error-format", "json"]);
        diff
    };
    succeed(&mut diff([&lora, &dora]));
    let (_, kind, text) = fail(&mut diff([&dora, &lora]));
    assert!(kind == "verify_failed" && text.contains(" of 28 tensors"), "{text}");

    // Plain deltas are a sum.
    let (one, two) = (case.adapter("one"), case.adapter("two"));
    let both = case.at("both");
    succeed(&mut merge(&case.base, &[&one, &two], &both));
    succeed(case.diff(&both).args(["--expect", &two, "--expect", &one]));
}

#[test]
fn the_heat_map_and_the_page_stand_by_themselves() {
    let case = Small::new();
    let output = case.merged("out", &case.adapter("a"), &[]);
    let (svg, html) = (case.at("change.svg"), case.at("change.html"));
    let quiet = run(case.diff(&output).arg("--quiet").arg("--svg").arg(&svg).arg("--html").arg(&html));
    assert!(quiet.status.success() && quiet.stdout.is_empty());
    let (svg, html) = (std::fs::read_to_string(svg).unwrap(), std::fs::read_to_string(html).unwrap());
    assert!(
        svg.starts_with("<svg xmlns=") && svg.contains("<title>layer 1, self_attn.q_proj.weight: relative norm "),
        "{svg}"
    );
    assert!(html.contains("<svg xmlns=") && html.contains("6 of 10 tensors differ"), "{html}");
    for text in [&svg, &html] {
        assert!(!text.contains("<script") && !text.contains("src=") && !text.contains("href="), "nothing is loaded");
        assert_eq!(
            text.matches("http").count(),
            text.matches("http://www.w3.org").count() + text.matches("http-equiv").count()
        );
    }
}
