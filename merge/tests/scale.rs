//! Work that grows with its input and not with the square of it. Prints seconds, decides nothing by them:
//! `cargo test -p shardfuse-merge --test scale -- --ignored --nocapture`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use shardfuse_merge::adapter::config::AdapterConfig;
use shardfuse_merge::checkpoint::header;
use shardfuse_merge::inventory::{AdapterInventory, BaseInventory, Inventory, Object, ObjectId, Shard, Source};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::spec::{LoraSpec, MergeSpec};
use shardfuse_merge::{Dtype, Kind};

const MANY: usize = 20_000;

fn source(object: u32, name: String, shape: &[u64]) -> Source {
    Source { name, object: ObjectId(object), offset: 64, dtype: Dtype::F32, shape: shape.into() }
}

/// Tensors one after another: at one place they would be one.
fn apart(tensors: Vec<Source>) -> Vec<Source> {
    (0u64..).zip(tensors).map(|(at, tensor)| Source { offset: 64 + (at << 10), ..tensor }).collect()
}

fn plan(base: Vec<Source>, config: Value, adapter: Vec<Source>) -> shardfuse_merge::Result<Plan> {
    planned(apart(base), config, adapter)
}

fn planned(base: Vec<Source>, config: Value, adapter: Vec<Source>) -> shardfuse_merge::Result<Plan> {
    let object = |url: &str| Object { url: url.into(), size: 1 << 40, pin: "p".into(), seen: "s".into() };
    let text = json!({"model_type": "llama"});
    let shard = Shard { name: "model.safetensors".into(), metadata: BTreeMap::new(), tensors: base };
    let base = BaseInventory {
        url: "base".into(),
        config_bytes: text.to_string().into_bytes(),
        config: text,
        shards: vec![shard],
        indexed: false,
        sidecars: Vec::new(),
        repeated: Vec::new(),
        card: None,
        compared: Vec::new(),
        small: Default::default(),
        files: Vec::new(),
        skipped: Vec::new(),
        listed: true,
    };
    let adapter = AdapterInventory {
        url: "adapter".into(),
        config: AdapterConfig::parse(config.to_string().as_bytes())?,
        tensors: adapter,
        extra: Vec::new(),
        sidecars: Vec::new(),
        skipped: Vec::new(),
        files: Vec::new(),
    };
    let spec = MergeSpec::of("base", [LoraSpec::new("adapter")], "out");
    let objects = vec![object("base/model.safetensors"), object("adapter/adapter_model.safetensors")];
    Plan::new(spec, &Inventory { objects, base, adapters: vec![adapter], tokenizer: None, grain: None })
        .map(|(plan, _)| plan)
}

fn modules() -> Vec<String> {
    (0..MANY).map(|i| format!("model.layers.{i}.self_attn.q_proj")).collect()
}

fn weights(modules: &[String]) -> Vec<Source> {
    modules.iter().map(|m| source(0, format!("{m}.weight"), &[4, 4])).collect()
}

fn pairs(modules: &[String]) -> Vec<Source> {
    let pair = |m: &String| {
        [("lora_A", [2, 4]), ("lora_B", [4, 2])]
            .map(|(part, shape)| source(1, format!("base_model.model.{m}.{part}.weight"), &shape))
    };
    modules.iter().flat_map(pair).collect()
}

#[allow(clippy::disallowed_methods, reason = "the domain has no clock, a figure for people needs one")]
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let start = std::time::Instant::now();
    let result = work();
    println!("{what}: {:.2} s", start.elapsed().as_secs_f64());
    result
}

#[test]
#[ignore = "prints seconds for people"]
fn twenty_thousand_of_everything() {
    let modules = modules();
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": modules});
    let done = timed("20,000 target modules x 20,000 tensors", || plan(weights(&modules), config, pairs(&modules)));
    assert_eq!(done.unwrap().output.files[0].tensors.len(), MANY);

    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
    let one = timed("20,000 names of one storage", || planned(weights(&modules), config, pairs(&modules)));
    assert_eq!(one.unwrap().output.files[0].tensors.len(), MANY);

    let other: Vec<String> = (0..MANY).map(|i| format!("missing.{i}")).collect();
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": other});
    timed("20,000 targets that nothing has", || plan(weights(&modules), config, pairs(&modules))).unwrap();

    let ranks: BTreeMap<&String, u64> = modules.iter().map(|m| (m, 2)).collect();
    let config = json!({"peft_type": "LORA", "r": 8, "lora_alpha": 4, "rank_pattern": ranks});
    timed("20,000 entries of rank_pattern", || plan(weights(&modules), config, pairs(&modules))).unwrap();

    let config = json!({"peft_type": "LORA", "modules_to_save": other});
    let saved = modules.iter().map(|m| source(1, format!("base_model.model.{m}.weight"), &[4, 4])).collect();
    timed("20,000 modules to save x 20,000 tensors", || plan(weights(&modules), config, saved)).unwrap();

    let experts: Vec<String> = (0..MANY).map(|i| format!("model.layers.0.mlp.experts.{i}.up_proj")).collect();
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4});
    let refused = timed("40,000 expert keys that match nothing", || plan(weights(&modules), config, pairs(&experts)));
    assert_eq!(refused.unwrap_err().kind(), Kind::UnmatchedKeys);
}

#[test]
#[ignore = "prints seconds for people"]
fn many_names_of_one_header() {
    let names: Vec<String> = (0..500_000).map(|i| format!("model.layers.{i}.self_attn.q_proj.weight")).collect();
    let shape = [2u64];
    let rendered = timed("a header of 500,000 names, written", || {
        header::render(names.iter().map(|n| (n.as_str(), Dtype::F32, &shape[..], 8)), &BTreeMap::new())
    });
    let size = rendered.len() as u64 + 8 * 500_000;
    let read = timed("and read", || header::parse(&rendered[8..], size)).unwrap();
    assert_eq!(read.tensors.len(), 500_000);
}
