//! The same bytes, whoever computes them.

use safetensors::Dtype;

use crate::output::assert_same;
use crate::tool::{command, merge, succeed};
use shardfuse_testkit::checkpoint::{Model, lora};

#[test]
fn bytes_do_not_depend_on_threads_part_size_or_memory() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { hidden: 128, layers: 3, vocab: 200, dtype: Dtype::BF16, files: 3 };
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 16, "a");
    let reference = dir.path().join("reference");
    succeed(&mut merge(&base, &[a.to_str().unwrap()], &reference));
    for (i, (threads, part, memory)) in
        [("1", "1KiB", "1MiB"), ("2", "64KiB", "1MiB"), ("7", "64MiB", "1GiB"), ("3", "2KiB", "16KiB")]
            .into_iter()
            .enumerate()
    {
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

/// A GPT-2-shaped base with DoRA on a Conv1D and on an embedding of several row blocks, twice: norms by column that are
/// measured, the second after the first.
fn dora_by_columns(dir: &std::path::Path) -> (std::path::PathBuf, Vec<String>) {
    use serde_json::json;
    use shardfuse_testkit::checkpoint::{Tensor, tensor, write, write_json};
    let base = dir.join("base");
    std::fs::create_dir_all(&base).unwrap();
    write_json(&base.join("config.json"), &json!({"model_type": "gpt2", "vocab_size": 2500, "torch_dtype": "float32"}));
    let shapes: [(&str, &[usize]); 3] =
        [("wte.weight", &[2500, 24]), ("h.0.mlp.c_fc.weight", &[1500, 40]), ("ln_f.weight", &[24])];
    write(&base.join("model.safetensors"), &shapes.map(|(n, s)| tensor(n, Dtype::F32, s)));
    let adapter = |name: &str, rank: usize| {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let seeded = |t: &str, shape: &[usize]| {
            let values = shardfuse_testkit::checkpoint::values(&format!("{name}{t}"), shape.iter().product());
            // Magnitudes are norms: positive, and of the size of a column.
            let values: Vec<f32> =
                if t.ends_with("vector") { values.iter().map(|v| v.abs() * 20.0 + 0.5).collect() } else { values };
            Tensor {
                name: format!("base_model.model.transformer.{t}"),
                dtype: Dtype::F32,
                shape: shape.into(),
                bytes: shardfuse_testkit::checkpoint::encode(Dtype::F32, &values),
            }
        };
        let tensors = [
            seeded("wte.lora_embedding_A", &[rank, 2500]),
            seeded("wte.lora_embedding_B", &[24, rank]),
            seeded("wte.lora_magnitude_vector", &[24]),
            seeded("h.0.mlp.c_fc.lora_A.weight", &[rank, 1500]),
            seeded("h.0.mlp.c_fc.lora_B.weight", &[40, rank]),
            seeded("h.0.mlp.c_fc.lora_magnitude_vector", &[40]),
        ];
        write(&folder.join("adapter_model.safetensors"), &tensors);
        write_json(
            &folder.join("adapter_config.json"),
            &json!({"peft_type": "LORA", "r": rank, "lora_alpha": rank, "use_dora": true, "target_modules": ["wte", "c_fc"]}),
        );
        folder.to_str().unwrap().to_owned()
    };
    (base, vec![adapter("a", 3), adapter("b", 5)])
}

#[test]
fn norms_by_column_do_not_depend_on_the_cut_and_equal_f64() {
    let dir = tempfile::tempdir().unwrap();
    let (base, loras) = dora_by_columns(dir.path());
    let loras: Vec<&str> = loras.iter().map(String::as_str).collect();
    for norm in ["standing", "original"] {
        let reference = dir.path().join(format!("reference-{norm}"));
        succeed(merge(&base, &loras, &reference).args(["--dora-norm", norm]));
        for (i, (threads, part, memory)) in [("1", "1KiB", "8KiB"), ("5", "1MiB", "64MiB")].into_iter().enumerate() {
            let out = dir.path().join(format!("{norm}{i}"));
            let mut merge = command();
            merge.arg("merge").arg("--base").arg(&base).args(["--lora", &loras.join(",")]).arg("--output").arg(&out);
            succeed(merge.args(["--dora-norm", norm, "--threads", threads, "--part-size", part, "--memory", memory]));
            assert_same(&reference, &out);
        }
        let report = succeed(command().arg("verify").arg(&reference).args(["--sample", "40", "--format", "json"]));
        let value: serde_json::Value = serde_json::from_str(&report).unwrap();
        assert_eq!(
            (value["sample"]["wte.weight"]["rows"].as_u64(), value["sample"]["wte.weight"]["wrong"].as_u64()),
            (Some(40), Some(0)),
            "{value}"
        );
    }
    let one = crate::output::tensor(&dir.path().join("reference-standing"), "wte.weight").2;
    let other = crate::output::tensor(&dir.path().join("reference-original"), "wte.weight").2;
    assert_ne!(one, other, "the two norms are not the same");
}

#[test]
fn a_merge_killed_between_measuring_and_filling_goes_on_with_what_was_measured() {
    let dir = tempfile::tempdir().unwrap();
    let (base, loras) = dora_by_columns(dir.path());
    let loras: Vec<&str> = loras.iter().map(String::as_str).collect();
    let (reference, out) = (dir.path().join("reference"), dir.path().join("out"));
    succeed(&mut merge(&base, &loras, &reference));
    let mut slow = merge(&base, &loras, &out);
    let mut child = slow
        .args(["--limit-rate", "20000"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    // Measured blocks are no writes of parts, so the first part comes after all of them.
    let measured = |out: &std::path::Path| out.join(".shardfuse/measured/3/all").exists();
    let journaled = || crate::resume::journaled(&out).len();
    assert!(crate::resume::wait_for(&mut child, || measured(&out) && journaled() > blocks(&out) + 2));
    child.kill().unwrap();
    child.wait().unwrap();
    // Blocks of statistics are kept too, but they are no parts of the output.
    let (blocks, parts) = (blocks(&out), journaled() - blocks(&out));
    assert!(!out.join("config.json").exists());
    let value: serde_json::Value =
        serde_json::from_str(&succeed(merge(&base, &loras, &out).args(["--format", "json"]))).unwrap();
    assert!(
        blocks > 0 && value["parts_kept"].as_u64() == Some(parts as u64),
        "{blocks} blocks, {parts} parts: {value}"
    );
    assert_same(&reference, &out);
}

/// Blocks of statistics that are stored.
fn blocks(out: &std::path::Path) -> usize {
    let of = |folder: std::path::PathBuf| std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = of(out.join(".shardfuse/measured")).flat_map(|statistic| of(statistic.path())).map(|f| f.file_name());
    names.filter(|name| name.to_string_lossy().parse::<u32>().is_ok()).count()
}
