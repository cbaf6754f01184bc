//! A folder with a base, an adapter, outputs and a coordinator's state; and a hub on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use shardfuse_coordinator::hub::{self, Handle, Options, Stage, Submission, View};
use shardfuse_coordinator::registry::{MergeId, Registry};
use shardfuse_merge::spec::{LoraSpec, MergeSpec};
use shardfuse_store::{Location, Stores};
use tempfile::TempDir;

/// Long enough for any machine: a test waits for a condition, and this is when it gives up.
pub const TIMEOUT: Duration = Duration::from_secs(60);
/// Parts of 1 KiB: a small model has many.
const PART: u64 = 1024;
const HIDDEN: usize = 32;
const LAYERS: usize = 12;

pub struct Fixture {
    pub dir: TempDir,
    pub stores: Arc<Stores>,
}

impl Fixture {
    pub fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        base(&dir.path().join("base"));
        adapter(&dir.path().join("lora"));
        Fixture { dir, stores: Arc::new(Stores::new()) }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn spec(&self, output: &str) -> MergeSpec {
        let place = |name: &str| self.path(name).to_str().unwrap().to_owned();
        let lora = [LoraSpec::new(place("lora"))];
        MergeSpec { part_size: PART, ..MergeSpec::of(place("base"), lora, place(output)) }
    }

    pub fn submission(&self, output: &str) -> Submission {
        Submission {
            spec: self.spec(output),
            restart: false,
            force: false,
            allow_no_change: false,
            priority: 0,
            device: None,
            verify_parts: None,
        }
    }

    pub fn registry(&self, name: &str) -> Registry {
        Registry::new(self.stores.clone(), &Location::at_path(&self.path(name)).unwrap()).unwrap()
    }

    pub async fn hub(&self, options: Options) -> Handle {
        hub::start(self.stores.clone(), Some(self.registry("state")), options).await.unwrap()
    }

    /// A hub with a merge that runs and has no worker yet.
    pub async fn running(&self, options: Options) -> (Handle, MergeId) {
        let hub = self.hub(options).await;
        let (merge, _) = hub.submit(self.submission("out")).await.unwrap();
        wait_for(&hub, &merge.id, Stage::Running).await;
        (hub, merge.id)
    }
}

/// Waits until a merge is as `wanted` says.
pub async fn wait(hub: &Handle, id: &MergeId, wanted: impl Fn(&View) -> bool) -> View {
    let mut view = hub.get(id.clone()).await.unwrap().expect("the merge is known");
    let seen = tokio::time::timeout(TIMEOUT, view.wait_for(|v| wanted(v))).await;
    match seen {
        Ok(seen) => seen.expect("the hub is there").clone(),
        Err(_) => panic!("in vain: {:?}", hub.get(id.clone()).await.unwrap().map(|v| v.borrow().clone())),
    }
}

pub async fn wait_for(hub: &Handle, id: &MergeId, stage: Stage) -> View {
    wait(hub, id, |v| v.stage == stage || v.stage.has_ended()).await
}

/// Waits until a condition holds.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn base(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let config =
        json!({"model_type": "llama", "vocab_size": HIDDEN, "torch_dtype": "bfloat16", "tie_word_embeddings": false});
    std::fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let mut tensors = vec![("model.embed_tokens.weight".to_owned(), vec![HIDDEN, HIDDEN])];
    for i in 0..LAYERS {
        tensors.push((format!("model.layers.{i}.self_attn.q_proj.weight"), vec![HIDDEN, HIDDEN]));
    }
    tensors.push(("lm_head.weight".to_owned(), vec![HIDDEN, HIDDEN]));
    write(&dir.join("model.safetensors"), "BF16", 2, &tensors);
}

fn adapter(dir: &Path) {
    std::fs::create_dir_all(dir).unwrap();
    let config = json!({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"], "base_model_name_or_path": "base"});
    std::fs::write(dir.join("adapter_config.json"), config.to_string()).unwrap();
    let mut tensors = Vec::new();
    for i in 0..LAYERS {
        let module = format!("base_model.model.model.layers.{i}.self_attn.q_proj");
        tensors.push((format!("{module}.lora_A.weight"), vec![2, HIDDEN]));
        tensors.push((format!("{module}.lora_B.weight"), vec![HIDDEN, 2]));
    }
    write(&dir.join("adapter_model.safetensors"), "F32", 4, &tensors);
}

/// A safetensors file of zeros: nobody here looks at values.
fn write(path: &Path, dtype: &str, width: usize, tensors: &[(String, Vec<usize>)]) {
    let mut header = serde_json::Map::new();
    let mut at = 0;
    for (name, shape) in tensors {
        let end = at + shape.iter().product::<usize>() * width;
        header.insert(name.clone(), json!({"dtype": dtype, "shape": shape, "data_offsets": [at, end]}));
        at = end;
    }
    let mut text = serde_json::to_vec(&header).unwrap();
    text.resize(text.len().next_multiple_of(8), b' ');
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text);
    bytes.resize(bytes.len() + at, 0);
    std::fs::write(path, bytes).unwrap();
}
