//! A small model with all that a merge can meet on its way: three files, dozens of parts, parts that the store copies, LoRA, and DoRA on an
//! embedding and on Conv1D, whose norms go down the columns and are measured first.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};
use shardfuse_merge::spec::{LoraSpec, MergeSpec};
use shardfuse_store::{Location, Store};

use shardfuse_testkit::checkpoint::{Tensor, encode, tensor, values};

/// More than one block of a measurement.
const ROWS: usize = 1100;
const WIDTH: usize = 24;
const LAYERS: usize = 6;
const PART: u64 = 2 << 10;

pub fn root() -> Location {
    "s3://bucket".parse().expect("it is a URL")
}

pub fn at(name: &str) -> Location {
    root().join(name).expect("it is a name")
}

pub fn out() -> Location {
    at("out")
}

/// The merge.
pub fn spec() -> MergeSpec {
    let lora = ["plain", "dora"].map(|n| LoraSpec::new(at(n).to_string()));
    MergeSpec { part_size: PART, ..MergeSpec::of(at("base").to_string(), lora, out().to_string()) }
}

/// An older model for the output: its `config.json` is, byte by byte, that of the merge, and its files of weights and
/// vocabulary are none that the merge writes.
pub fn older(config: &Bytes) -> BTreeMap<Location, Bytes> {
    let text =
        |name: &str, text: &'static str| (out().join(name).expect("it is a name"), Bytes::from_static(text.as_bytes()));
    let config = (out().join("config.json").expect("it is a name"), config.clone());
    [config, text("model.safetensors", "older"), text("tokenizer.model", "older"), text("shardfuse.json", "{}")].into()
}

/// Puts the inputs in their places.
pub async fn put(store: &dyn Store) {
    for (name, bytes) in files() {
        store.put(&at(&name), bytes).await.expect("the bucket takes it");
    }
}

fn files() -> BTreeMap<String, Bytes> {
    let mut files = BTreeMap::new();
    let mut json = |name: &str, value: Value| _ = files.insert(name.to_owned(), Bytes::from(value.to_string()));
    json(
        "base/config.json",
        json!({"model_type": "gpt2", "vocab_size": ROWS, "torch_dtype": "float32", "tie_word_embeddings": false}),
    );
    json("base/tokenizer.json", json!({"base": true}));
    let layer = |i: usize| {
        let fc = tensor(&format!("h.{i}.mlp.c_fc.weight"), Dtype::F32, &[WIDTH, 4 * WIDTH]);
        let attention = tensor(&format!("h.{i}.attn.c_attn.weight"), Dtype::F32, &[WIDTH, 3 * WIDTH]);
        [fc, attention, tensor(&format!("h.{i}.ln_1.weight"), Dtype::F32, &[WIDTH])]
    };
    // Nothing changes the positions: the store copies them.
    let embedding: Vec<Tensor> =
        ["wpe.weight", "wte.weight"].map(|name| tensor(name, Dtype::BF16, &[ROWS, WIDTH])).into();
    let (mut first, mut second) = (Vec::new(), Vec::new());
    (0..LAYERS / 2).for_each(|i| first.extend(layer(i)));
    (LAYERS / 2..LAYERS).for_each(|i| second.extend(layer(i)));
    let mut map = serde_json::Map::new();
    let mut shards = Vec::new();
    for (number, tensors) in [embedding, first, second].into_iter().enumerate() {
        let file = format!("model-{:05}-of-00003.safetensors", number + 1);
        map.extend(tensors.iter().map(|t| (t.name.clone(), file.clone().into())));
        shards.push((format!("base/{file}"), tensors));
    }
    json("base/model.safetensors.index.json", json!({"weight_map": map}));
    for (name, rank, dora) in [("plain", 2, false), ("dora", 3, true)] {
        let mut modules: Vec<&str> = if dora { vec!["wte", "c_fc"] } else { vec!["c_fc", "c_attn"] };
        modules.sort_unstable();
        json(
            &format!("{name}/adapter_config.json"),
            json!({"peft_type": "LORA", "r": rank, "lora_alpha": rank, "use_dora": dora, "target_modules": modules}),
        );
        shards.push((format!("{name}/adapter_model.safetensors"), adapter(name, rank, &modules, dora)));
    }
    files.extend(shards.into_iter().map(|(name, tensors)| (name, safetensors_file(&tensors))));
    files
}

fn adapter(name: &str, rank: usize, modules: &[&str], dora: bool) -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let mut add = |t: String, shape: &[usize]| {
        let mut values = values(&format!("{name}{t}"), shape.iter().product());
        if t.ends_with("vector") {
            // Magnitudes are norms: positive, and of the size of a column.
            values.iter_mut().for_each(|v| *v = v.abs() * 20.0 + 0.5);
        }
        let bytes = encode(Dtype::F32, &values);
        let name = format!("base_model.model.transformer.{t}");
        tensors.push(Tensor { name, dtype: Dtype::F32, shape: shape.into(), bytes });
    };
    if modules.contains(&"wte") {
        add("wte.lora_embedding_A".into(), &[rank, ROWS]);
        add("wte.lora_embedding_B".into(), &[WIDTH, rank]);
        add("wte.lora_magnitude_vector".into(), &[WIDTH]);
    }
    for (i, (module, width)) in
        (0..LAYERS).flat_map(|i| [("mlp.c_fc", 4 * WIDTH), ("attn.c_attn", 3 * WIDTH)].map(|m| (i, m)))
    {
        if !modules.iter().any(|m| module.ends_with(m)) {
            continue;
        }
        add(format!("h.{i}.{module}.lora_A.weight"), &[rank, WIDTH]);
        add(format!("h.{i}.{module}.lora_B.weight"), &[width, rank]);
        if dora {
            add(format!("h.{i}.{module}.lora_magnitude_vector"), &[width]);
        }
    }
    tensors
}

fn safetensors_file(tensors: &[Tensor]) -> Bytes {
    let views = tensors.iter().map(|t| {
        let view = TensorView::new(t.dtype, t.shape.clone(), &t.bytes).expect("the bytes fit the shape");
        (t.name.clone(), view)
    });
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(views, Some(metadata)).expect("it can be written").into()
}
