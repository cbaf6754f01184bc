//! The chain: an adapter that grows the vocabulary, one trained on its result, and one's own on top, in one command.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};
use shardfuse_testkit::checkpoint::{Model, lora_with, tensor};

use crate::output::assert_same;
use crate::tool::{command, merge, succeed};

const ROWS: usize = 104;

struct Chain {
    dir: tempfile::TempDir,
    base: PathBuf,
}

impl Chain {
    fn new() -> Chain {
        let dir = tempfile::tempdir().unwrap();
        let base = Model::SMALL.write(&dir.path().join("Llama-2-7b-hf"));
        let saved = |module: &str| {
            let name = format!("base_model.model.{module}.modules_to_save.weight");
            tensor(&name, Dtype::F16, &[ROWS, Model::SMALL.hidden])
        };
        let adapter = |name: &str, rank: usize, config: Value, more| {
            lora_with(&dir.path().join(name), &Model::SMALL, rank, name, config, more);
        };
        let grows = json!({"base_model_name_or_path": "meta-llama/Llama-2-7b-hf", "modules_to_save": ["embed_tokens", "lm_head"]});
        adapter("zh-llama-2-lora-7b", 4, grows, vec![saved("model.embed_tokens"), saved("lm_head")]);
        std::fs::write(dir.path().join("zh-llama-2-lora-7b/tokenizer.json"), "{\"zh\": true}").unwrap();
        adapter("instruct-lora", 6, json!({"base_model_name_or_path": "hub/zh-llama-2-7b"}), Vec::new());
        adapter("mine", 2, json!({"base_model_name_or_path": "/disk/instruct-lora/"}), Vec::new());
        Chain { dir, base }
    }

    fn at(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// `shardfuse plan` of adapters in this order.
    fn plan(&self, names: &[&str], options: &[&str]) -> String {
        let mut plan = command();
        plan.arg("plan").arg("--base").arg(&self.base).args(["--output", &self.at("planned")]).args(options);
        names.iter().for_each(|name| {
            plan.args(["--lora", &self.at(name)]);
        });
        succeed(&mut plan)
    }
}

const IN_ORDER: [&str; 3] = ["zh-llama-2-lora-7b", "instruct-lora", "mine"];

fn json_of(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn the_plan_and_the_manifest_show_who_was_trained_on_whom() {
    let chain = Chain::new();
    let text = chain.plan(&IN_ORDER, &[]);
    let has = |line: &str| assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    has("lineage  Llama-2-7b-hf > zh-llama-2-lora-7b > instruct-lora > mine");
    has("vocabulary: 96 -> 104 rows");
    has("note: adapter 2 names the result of adapter 1 as its base (hub/zh-llama-2-7b): a chain");
    has("note: adapter 3 names adapter 2 as its base (/disk/instruct-lora/): a chain");
    assert!(!text.contains("warning"), "{text}");
    let expected = json!([
        {"named": "meta-llama/Llama-2-7b-hf", "trained_on": "base"},
        {"named": "hub/zh-llama-2-7b", "trained_on": {"adapter": 1}},
        {"named": "/disk/instruct-lora/", "trained_on": {"adapter": 2}},
    ]);
    let plan: Value = serde_json::from_str(&chain.plan(&IN_ORDER, &["--format", "json"])).unwrap();
    assert_eq!(plan["lineage"], expected);
    let out = chain.dir.path().join("out");
    let loras = IN_ORDER.map(|name| chain.at(name));
    succeed(&mut merge(&chain.base, &loras.each_ref().map(String::as_str), &out));
    assert_eq!(json_of(&out.join("shardfuse.json"))["lineage"], expected);
    assert_eq!(json_of(&out.join("config.json"))["vocab_size"], ROWS);
}

#[test]
fn an_adapter_before_the_one_that_it_was_trained_on_is_a_warning_and_no_chain() {
    let chain = Chain::new();
    let order = ["mine", "instruct-lora", "zh-llama-2-lora-7b"];
    let text = chain.plan(&order, &[]);
    for line in [
        "warning: adapter 1 names adapter 2 as its base (/disk/instruct-lora/), which applies after it: give adapter 2 first",
        "warning: adapter 2 names the result of adapter 3 as its base (hub/zh-llama-2-7b), which applies after it: give adapter 3 first",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(!text.contains("lineage") && !text.contains("a chain"), "{text}");
    let plan: Value = serde_json::from_str(&chain.plan(&order, &["--format", "json"])).unwrap();
    let on: Vec<&Value> = plan["lineage"].as_array().unwrap().iter().map(|one| &one["trained_on"]).collect();
    assert_eq!(on, [&json!({"later_adapter": 2}), &json!({"later_adapter": 3}), &json!("base")]);
}

#[test]
fn one_command_gives_the_bytes_of_four_steps_that_are_saved_one_by_one() {
    let chain = Chain::new();
    let mut standing = chain.base.clone();
    for (step, name) in IN_ORDER.iter().enumerate() {
        let out = chain.dir.path().join(format!("step-{step}"));
        succeed(&mut merge(&standing, &[&chain.at(name)], &out));
        standing = out;
    }
    let whole = chain.dir.path().join("whole");
    let loras = IN_ORDER.map(|name| chain.at(name));
    let loras = loras.each_ref().map(String::as_str);
    succeed(merge(&chain.base, &loras, &whole).args(["--rounding", "per-adapter"]));
    assert_same(&standing, &whole);
}
