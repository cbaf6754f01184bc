//! A small model with everything that leaves a trace in the state: two files, parts that end within tensors, a
//! tensor that nothing changes, of which a bucket copies most, two measurements of which the second waits for the first, a sidecar.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use safetensors::Dtype;
use serde_json::json;
use shardfuse_merge::spec::{LoraSpec, MergeSpec};
use shardfuse_store::memory::Memory;
use shardfuse_store::{Local, Location, Store};

use shardfuse_testkit::checkpoint::{Tensor, encode, tensor, values, write, write_json};

pub const ROWS: usize = 1100;
pub const PART: u64 = 8 << 10;

/// Where a merge's inputs and output lie.
pub struct Place {
    pub store: Arc<dyn Store>,
    pub root: Location,
    /// The same store, where it is one in memory.
    pub memory: Option<Arc<Memory>>,
    _dir: Option<tempfile::TempDir>,
}

impl Place {
    /// A bucket in memory that behaves like S3, with the model in it.
    pub async fn bucket() -> Place {
        Place::in_memory(Memory::new()).await
    }

    /// The same, in which equal bytes are one version, as on S3.
    pub async fn bucket_with_pins_of_bytes() -> Place {
        Place::in_memory(Memory::new().with_pins_of_bytes()).await
    }

    /// One that calls the completion of an upload that is gone a success.
    pub async fn false_bucket() -> Place {
        Place::in_memory(Memory::new().with_false_completions()).await
    }

    async fn in_memory(memory: Memory) -> Place {
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path());
        let memory = Arc::new(memory.with_small_parts());
        let root: Location = "s3://bucket".parse().unwrap();
        let at = Location::at_path(dir.path()).unwrap();
        for entry in Local::new().list(&at).await.unwrap() {
            let (bytes, _) = Local::new().get(&at.join(&entry.name).unwrap(), 1 << 30).await.unwrap();
            memory.put(&root.join(&entry.name).unwrap(), bytes).await.unwrap();
        }
        Place { store: memory.clone(), root, memory: Some(memory), _dir: None }
    }

    /// A folder on the disk, with the model in it.
    pub fn folder() -> Place {
        let dir = tempfile::tempdir().unwrap();
        write_model(dir.path());
        let root = Location::at_path(dir.path()).unwrap();
        Place { store: Arc::new(Local::new()), root, memory: None, _dir: Some(dir) }
    }

    pub fn at(&self, name: &str) -> Location {
        self.root.join(name).unwrap()
    }

    pub fn out(&self) -> Location {
        self.at("out")
    }

    /// The merge of the model.
    pub fn spec(&self) -> MergeSpec {
        let lora = ["a", "b"].map(|n| LoraSpec::new(self.at(n).to_string()));
        MergeSpec { part_size: PART, ..MergeSpec::of(self.at("base").to_string(), lora, self.out().to_string()) }
    }

    /// Another merge of the model into the same output: one file of weights where the first one has two.
    pub fn other_spec(&self) -> MergeSpec {
        let mut spec = self.spec();
        spec.lora.truncate(1);
        MergeSpec { max_shard_size: Some(1 << 30), ..spec }
    }

    /// Everything below the output but the state.
    pub async fn published(&self) -> BTreeMap<String, Bytes> {
        let mut files = BTreeMap::new();
        for entry in self.store.list(&self.out()).await.unwrap() {
            if !entry.name.starts_with(".shardfuse/") {
                let (bytes, _) = self.store.get(&self.out().join(&entry.name).unwrap(), 1 << 30).await.unwrap();
                files.insert(entry.name, bytes);
            }
        }
        files
    }

    /// What is left of the state, uploads included where the store can tell.
    pub async fn leftovers(&self) -> Vec<String> {
        let mut left: Vec<String> = self.store.list(&self.out()).await.unwrap().into_iter().map(|e| e.name).collect();
        left.retain(|n| n.starts_with(".shardfuse"));
        if let Some(path) = self.out().local_path() {
            let hidden = std::fs::read_dir(path).into_iter().flatten().flatten();
            left.extend(hidden.map(|e| e.file_name().to_string_lossy().into_owned()).filter(|n| n.starts_with('.')));
        }
        left
    }
}

fn write_model(dir: &Path) {
    let base = dir.join("base");
    std::fs::create_dir_all(&base).unwrap();
    write_json(
        &base.join("config.json"),
        &json!({"model_type": "gpt2", "vocab_size": ROWS, "torch_dtype": "float32", "tie_word_embeddings": false}),
    );
    std::fs::write(base.join("tokenizer.json"), "{\"base\": true}").unwrap();
    let files = [
        ("model-00001-of-00002.safetensors", vec![("wpe.weight", vec![1024, 8]), ("wte.weight", vec![ROWS, 8])]),
        ("model-00002-of-00002.safetensors", vec![("h.0.mlp.c_fc.weight", vec![64, 48]), ("ln_f.weight", vec![8])]),
    ];
    let mut map = serde_json::Map::new();
    for (file, tensors) in files {
        let tensors: Vec<Tensor> = tensors.iter().map(|(n, s)| tensor(n, Dtype::F32, s)).collect();
        map.extend(tensors.iter().map(|t| (t.name.clone(), file.into())));
        write(&base.join(file), &tensors);
    }
    write_json(&base.join("model.safetensors.index.json"), &json!({"weight_map": map}));
    for (name, rank) in [("a", 2), ("b", 3)] {
        adapter(&dir.join(name), name, rank);
    }
}

/// DoRA on an embedding and on a Conv1D: both norms go down the columns, and are measured.
fn adapter(dir: &Path, name: &str, rank: usize) {
    std::fs::create_dir_all(dir).unwrap();
    let seeded = |t: &str, shape: &[usize]| {
        let values = values(&format!("{name}{t}"), shape.iter().product());
        // Magnitudes are norms: positive, and of the size of a column.
        let values: Vec<f32> =
            if t.ends_with("vector") { values.iter().map(|v| v.abs() * 20.0 + 0.5).collect() } else { values };
        let bytes = encode(Dtype::F32, &values);
        Tensor { name: format!("base_model.model.transformer.{t}"), dtype: Dtype::F32, shape: shape.into(), bytes }
    };
    let tensors = [
        seeded("wte.lora_embedding_A", &[rank, ROWS]),
        seeded("wte.lora_embedding_B", &[8, rank]),
        seeded("wte.lora_magnitude_vector", &[8]),
        seeded("h.0.mlp.c_fc.lora_A.weight", &[rank, 64]),
        seeded("h.0.mlp.c_fc.lora_B.weight", &[48, rank]),
        seeded("h.0.mlp.c_fc.lora_magnitude_vector", &[48]),
    ];
    write(&dir.join("adapter_model.safetensors"), &tensors);
    let config = json!({"peft_type": "LORA", "r": rank, "lora_alpha": rank, "use_dora": true, "target_modules": ["wte", "c_fc"]});
    write_json(&dir.join("adapter_config.json"), &config);
}
