//! What lies in an output.

use std::collections::BTreeMap;
use std::path::Path;

/// Every file below a folder with its bytes.
pub fn everything(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    walk(dir, dir, &mut all);
    all
}

/// The same without the manifest and the card (they name the output and the places of the inputs) and the state.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = everything(dir);
    all.retain(|name, _| name != "shardfuse.json" && name != "README.md" && !name.starts_with(".shardfuse"));
    all
}

fn walk(root: &Path, dir: &Path, all: &mut BTreeMap<String, Vec<u8>>) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, all);
        } else if let Ok(bytes) = std::fs::read(&path) {
            all.insert(path.strip_prefix(root).unwrap().to_string_lossy().into_owned(), bytes);
        }
    }
}

/// The same files with the same bytes, named one by one where not.
pub fn assert_same(left: &Path, right: &Path) {
    let (a, b) = (files(left), files(right));
    assert_eq!(a.keys().collect::<Vec<_>>(), b.keys().collect::<Vec<_>>(), "{left:?} and {right:?} hold other files");
    for (name, bytes) in &a {
        assert!(bytes == &b[name], "{name} differs between {left:?} and {right:?}");
    }
}

/// One tensor of an output, in fp32.
pub fn tensor(dir: &Path, name: &str) -> (safetensors::Dtype, Vec<usize>, Vec<f32>) {
    use safetensors::Dtype;
    for (file, bytes) in files(dir) {
        if !file.ends_with(".safetensors") {
            continue;
        }
        let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        if let Ok(view) = parsed.tensor(name) {
            let data = view.data();
            let values = match view.dtype() {
                Dtype::F32 => data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::BF16 => data.as_chunks::<2>().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
                Dtype::F16 => data.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
                other => panic!("{other} is not read here"),
            };
            return (view.dtype(), view.shape().to_vec(), values);
        }
    }
    panic!("{name} is not in {dir:?}");
}
