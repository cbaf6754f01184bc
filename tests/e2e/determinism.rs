//! The same bytes, whoever computes them.

use safetensors::Dtype;

use crate::fixture::{Model, lora};
use crate::output::assert_same;
use crate::tool::{command, merge, succeed};

#[test]
fn bytes_do_not_depend_on_threads_part_size_or_memory() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { hidden: 128, layers: 3, vocab: 200, dtype: Dtype::BF16, files: 3 };
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 16, "a");
    let reference = dir.path().join("reference");
    succeed(&mut merge(&base, &[a.to_str().unwrap()], &reference));
    for (i, (threads, part, memory)) in [("1", "1KiB", "1MiB"), ("2", "64KiB", "1MiB"), ("7", "64MiB", "1GiB"), ("3", "2KiB", "16KiB")].into_iter().enumerate() {
        let out = dir.path().join(format!("out{i}"));
        let mut merge = command();
        merge.arg("merge").arg("--base").arg(&base).arg("--lora").arg(&a).arg("--output").arg(&out);
        succeed(merge.args(["--threads", threads, "--part-size", part, "--memory", memory]));
        assert_same(&reference, &out);
    }
}

#[test]
fn consecutive_uses_of_one_adapter_are_one_use_with_the_sum_of_their_weights() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::SMALL;
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let a = a.to_str().unwrap();
    let (split, whole, none) = (dir.path().join("split"), dir.path().join("whole"), dir.path().join("none"));
    succeed(&mut merge(&base, &[&format!("{a}=0.25"), &format!("{a}=0.5")], &split));
    succeed(&mut merge(&base, &[&format!("{a}=0.75")], &whole));
    assert_same(&split, &whole);
    succeed(&mut merge(&base, &[&format!("{a}=1"), &format!("{a}=-1")], &none));
    for file in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        let (merged, original) = (std::fs::read(none.join(file)).unwrap(), std::fs::read(base.join(file)).unwrap());
        let data = |b: &[u8]| b[8 + u64::from_le_bytes(b[..8].try_into().unwrap()) as usize..].to_vec();
        assert_eq!(data(&merged), data(&original), "weights of sum 0 change {file}");
    }
}
