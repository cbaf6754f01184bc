use std::path::Path;
use std::sync::Arc;

use serde_json::json;
use shardfuse_merge::Kind;
use shardfuse_merge::checkpoint::header;
use shardfuse_merge::dtype::Dtype;
use shardfuse_store::fault::{Faulty, Operation};
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

/// A file of so many tensors of two values each.
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

#[tokio::test]
async fn a_pointer_in_place_of_weights_or_vocabulary_is_named() {
    let place = Place::new();
    place.write("config.json", json!({ "model_type": "llama" }).to_string()).await;
    let read = async || base(&Folder::open(&place.stores, &place.at.to_string()).await?, &mut Objects::default()).await;
    for (name, kind) in [("pytorch_model.bin", Kind::BadPickle), ("model.safetensors", Kind::BadSafetensors)] {
        let at = place.write(name, POINTER).await;
        let error = read().await.unwrap_err();
        assert_eq!(error.kind(), kind);
        let message = format!("{at}: is a Git LFS pointer of {} bytes, not the file that it stands for", POINTER.len());
        assert_eq!(error.message(), message);
        assert!(error.advice().is_some_and(|hint| hint.contains("git lfs pull")));
    }
    place.write("model.safetensors", weights(1)).await;
    let vocabulary = place.write("tokenizer.json", POINTER).await;
    let error = read().await.unwrap_err();
    assert!(error.message().starts_with(&format!("{vocabulary}: is a Git LFS pointer")), "{error}");
    place.write("tokenizer.json", "{}").await;
    assert_eq!(read().await.unwrap().sidecars.len(), 1);
}
