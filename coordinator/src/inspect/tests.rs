use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use shardfuse_merge::Kind;
use shardfuse_merge::checkpoint::header;
use shardfuse_merge::spec::LoraSpec;
use shardfuse_merge::tensor::Dtype;
use shardfuse_store::fault::{Faulty, Operation};
use shardfuse_store::memory::Memory;
use shardfuse_store::{Local, Location, Store};

use super::*;

/// A folder on disk and the stores that count what is asked of it.
struct Place {
    _dir: tempfile::TempDir,
    at: Location,
    store: Arc<Faulty>,
    stores: Stores,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Faulty::new(Arc::new(Local::new())));
        let at = Location::at_path(Path::new(dir.path())).unwrap();
        Self { at, stores: Stores::all(store.clone()), store, _dir: dir }
    }

    async fn write(&self, name: &str, bytes: impl Into<Vec<u8>>) -> Location {
        let at = self.at.join(name).unwrap();
        self.store.put(&at, bytes.into().into()).await.unwrap();
        at
    }
}

/// A file of `tensors` tensors with two values each.
fn weights(tensors: usize) -> Vec<u8> {
    let names: Vec<String> = (0..tensors).map(|i| format!("model.layers.{i}.weight")).collect();
    let shape = [2u64];
    let entries = names.iter().map(|name| (name.as_str(), Dtype::F32, &shape[..], 8));
    let mut bytes = header::render(entries, &std::collections::BTreeMap::new());
    bytes.resize(bytes.len() + tensors * 8, 7);
    bytes
}

const POINTER: &str = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n";

#[tokio::test]
async fn a_header_takes_one_read_and_a_long_one_two() {
    let place = Place::new();
    for (tensors, reads) in [(3, 1), (10_000, 2)] {
        let bytes = weights(tensors);
        let at = place.write("model.safetensors", bytes.clone()).await;
        let before = place.store.calls(Operation::Read);
        let read = read_weights(&*place.store, &at).await.unwrap();
        assert_eq!(place.store.calls(Operation::Read) - before, reads, "{} bytes", bytes.len());
        assert_eq!(read.tensors.len(), tensors);
        // What a pin of the header covers is the header, however it was read.
        let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        assert_eq!(read.object.seen, blake3::hash(&bytes[..header]).to_hex().to_string());
    }
}

impl Place {
    async fn base(&self) -> Result<BaseInventory> {
        let folder = Folder::open(&self.stores, &self.at.to_string(), Wanted::Checkpoint, &[]).await?;
        base(&folder, &mut Objects::default(), &Asked::default()).await
    }

    async fn adapter(&self, asked: &Asked<'_>) -> Result<AdapterInventory> {
        let folder = Folder::open(&self.stores, &self.at.to_string(), Wanted::Adapter, asked.extra).await?;
        adapter(&folder, &mut Objects::default(), asked).await
    }
}

/// The names of the files of one fate.
fn of(files: &[FileFate], fate: Fate) -> Vec<&str> {
    files.iter().filter(|f| f.fate == fate).map(|f| f.name.as_str()).collect()
}

#[tokio::test]
async fn a_pointer_in_place_of_any_file_that_is_used_or_travels_is_named() {
    let place = Place::new();
    place.write("config.json", json!({ "model_type": "llama" }).to_string()).await;
    let read = async || place.base().await;
    for (name, kind) in [("pytorch_model.bin", Kind::BadPickle), ("model.safetensors", Kind::BadSafetensors)] {
        let at = place.write(name, POINTER).await;
        let error = read().await.unwrap_err();
        assert_eq!(error.kind(), kind);
        let message = format!("{at}: is a Git LFS pointer of {} bytes, not the file that it stands for", POINTER.len());
        assert_eq!(error.message(), message);
        assert!(error.advice().is_some_and(|hint| hint.contains("git lfs pull")));
    }
    place.write("model.safetensors", weights(1)).await;
    for name in ["tokenizer.json", "2_Dense/model.safetensors", "spk_dict.pt", "config.json"] {
        let at = place.write(name, POINTER).await;
        let error = read().await.unwrap_err();
        assert!(error.message().starts_with(&format!("{at}: is a Git LFS pointer")), "{error}");
        place.write(name, "{}").await;
    }
    place.write("optimizer.pt", POINTER).await;
    let sidecars: Vec<String> = read().await.unwrap().sidecars.into_iter().map(|s| s.name).collect();
    assert_eq!(sidecars, ["2_Dense/model.safetensors", "spk_dict.pt", "tokenizer.json"]);
}

#[tokio::test]
async fn the_shards_of_an_adapter_are_held_against_their_index() {
    let place = Place::new();
    place.write("adapter_config.json", json!({ "peft_type": "LORA" }).to_string()).await;
    place.write("adapter_model-1.safetensors", weights(3)).await;
    let index = async |tensors: usize| {
        let map: serde_json::Map<String, serde_json::Value> =
            (0..tensors).map(|i| (format!("model.layers.{i}.weight"), json!("adapter_model-1.safetensors"))).collect();
        place.write("adapter_model.safetensors.index.json", json!({ "weight_map": map }).to_string()).await;
    };
    index(3).await;
    let adapter = place.adapter(&Asked::default()).await.unwrap();
    assert_eq!(adapter.tensors.len(), 3);
    assert_eq!(of(&adapter.files, Fate::Merged), ["adapter_model-1.safetensors"]);
    assert_eq!(of(&adapter.files, Fate::Read), ["adapter_config.json", "adapter_model.safetensors.index.json"]);
    index(2).await;
    assert_eq!(place.adapter(&Asked::default()).await.unwrap_err().kind(), Kind::BadIndex);
    place.write("adapter_model.safetensors.index.json", r#"{"weight_map": {"a": "gone.safetensors"}}"#).await;
    place.store.delete(&place.at.join("adapter_model-1.safetensors").unwrap()).await.unwrap();
    let error = place.adapter(&Asked::default()).await.unwrap_err();
    assert!(
        error.kind() == Kind::MissingFile && error.message().contains("the index names gone.safetensors"),
        "{error}"
    );
}

#[tokio::test]
async fn extra_files_are_read_beside_an_adapters_own() {
    let place = Place::new();
    place.write("adapter_config.json", json!({ "peft_type": "LORA" }).to_string()).await;
    for name in ["adapter_model.safetensors", "vit.safetensors", "head.safetensors", "sub/more.safetensors"] {
        place.write(name, weights(2)).await;
    }
    let extra = ["head.safetensors", "sub/more.safetensors"].map(str::to_owned);
    let error = place.adapter(&Asked::default()).await.unwrap_err();
    assert!(
        error.message().contains("head.safetensors") && error.message().contains("sub/more.safetensors"),
        "{error}"
    );
    let adapter = place.adapter(&Asked { extra: &extra, ..Asked::default() }).await.unwrap();
    let names: Vec<&str> = adapter.extra.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(names, ["head.safetensors", "sub/more.safetensors", "vit.safetensors"]);
    assert!(adapter.tensors.len() == 2 && adapter.extra.iter().all(|file| file.tensors.len() == 2));
    let looked = place.adapter(&Asked { look: true, ..Asked::default() }).await.unwrap();
    assert_eq!(of(&looked.files, Fate::Stays), ["head.safetensors", "sub/more.safetensors"]);
}

#[tokio::test]
async fn a_folder_of_an_object_store_is_told_apart_like_one_on_disk() {
    let disk = Place::new();
    let memory: Arc<dyn Store> = Arc::new(Memory::new());
    let stores = Stores::all(memory.clone());
    let at = Location::at_path(Path::new("/bucket")).unwrap();
    for (name, bytes) in [
        ("config.json", b"{}".to_vec()),
        ("model.safetensors", weights(2)),
        ("2_Dense/model.safetensors", weights(1)),
        ("consolidated.00.pth", vec![1]),
        ("onnx/model.onnx", vec![2]),
        ("tokenizer.json", b"{}".to_vec()),
    ] {
        disk.write(name, bytes.clone()).await;
        memory.put(&at.join(name).unwrap(), bytes.into()).await.unwrap();
    }
    let folder = Folder::open(&stores, &at.to_string(), Wanted::Checkpoint, &[]).await.unwrap();
    let there = base(&folder, &mut Objects::default(), &Asked::default()).await.unwrap();
    let here = disk.base().await.unwrap();
    assert_eq!(there.files, here.files);
    assert_eq!(of(&there.files, Fate::Travels), ["2_Dense/model.safetensors", "tokenizer.json"]);
    assert_eq!(of(&there.files, Fate::Stays), ["consolidated.00.pth", "onnx/"]);
}

#[test]
fn inputs_that_lie_in_one_another_are_known() {
    let spec = |base: &str, lora: &str| MergeSpec::of(base, [LoraSpec::new(lora)], "s3://b/out");
    assert_eq!(inner(&spec("s3://b/m", "s3://b/m/lora/a"), "s3://b/m").unwrap(), ["lora/a/"]);
    assert_eq!(inner(&spec("/m/base", "/m"), "/m").unwrap(), ["base/"]);
    assert!(inner(&spec("s3://b/m", "s3://b/m2"), "s3://b/m").unwrap().is_empty());
}

#[tokio::test]
async fn small_tensors_that_carry_layout_are_read_and_pinned() {
    let file = |shape: u64| {
        let entries = [("a.weight_shape", 16), ("b.weight_shape", 16), ("c.weight", 1 << 20), ("d.weight_shape", 16)];
        let sides = entries.map(|(_, bytes)| [bytes]);
        let entries = entries.iter().zip(&sides).map(|((name, bytes), shape)| (*name, Dtype::U8, &shape[..], *bytes));
        let mut bytes = header::render(entries, &std::collections::BTreeMap::new());
        bytes.extend([shape.to_le_bytes(), [1; 8], [2; 8], [3; 8]].concat());
        bytes.resize(bytes.len() + (1 << 20), 7);
        bytes.extend([4; 16]);
        bytes
    };
    let mut seen = Vec::new();
    for shape in [5u64, 6] {
        let place = Place::new();
        place.write("config.json", "{}").await;
        place.write("model.safetensors", file(shape)).await;
        let folder = Folder::open(&place.stores, &place.at.to_string(), Wanted::Checkpoint, &[]).await.unwrap();
        let mut objects = Objects::default();
        let base = base(&folder, &mut objects, &Asked::default()).await.unwrap();
        let read: Vec<_> = base.small.iter().map(|(name, bytes)| (name.as_str(), bytes[0], bytes.len())).collect();
        assert_eq!(read, [("a.weight_shape", shape as u8, 16), ("b.weight_shape", 2, 16), ("d.weight_shape", 4, 16)]);
        let at = base.shards[0].tensors[0].object;
        assert_eq!(objects.numbers[&objects.list[at.0 as usize]], at, "a note of the same file keeps its number");
        seen.push(objects.list[at.0 as usize].seen.clone());
    }
    assert_ne!(seen[0], seen[1], "the plan changes with what was read");
}
