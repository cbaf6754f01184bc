//! `--rounding per-adapter`: one merge of several adapters gives the bytes of merges one after another.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use serde_json::{Value, json};
use shardfuse_testkit::checkpoint::{Model, Tensor, encode, lora, lora_with, tensor, values};

use crate::output::{assert_same, files};
use crate::tool::{command, fail, merge, succeed};

const PER_ADAPTER: [&str; 2] = ["--rounding", "per-adapter"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance/golden").join(name)
}

/// Merges the adapters one by one, each into the output of the one before. The last output.
fn one_after_another(dir: &Path, base: &Path, loras: &[&str], options: &[&str]) -> PathBuf {
    let mut standing = base.to_path_buf();
    for (step, lora) in loras.iter().enumerate() {
        let output = dir.join(format!("step-{step}"));
        succeed(merge(&standing, &[lora], &output).args(options));
        standing = output;
    }
    standing
}

/// Holds one merge against merges one after another, and a sample of it against f64. The output.
fn check(dir: &Path, base: &Path, loras: &[&str], options: &[&str]) -> PathBuf {
    let (steps, whole) = (dir.join("steps"), dir.join("whole"));
    std::fs::create_dir_all(&steps).unwrap();
    let expected = one_after_another(&steps, base, loras, options);
    succeed(merge(base, loras, &whole).args(options).args(PER_ADAPTER));
    assert_same(&expected, &whole);
    let manifest: Value = serde_json::from_slice(&std::fs::read(whole.join("shardfuse.json")).unwrap()).unwrap();
    assert_eq!(manifest["spec"]["rounding"], "per-adapter");
    let report = succeed(command().arg("verify").arg(&whole).args(["--sample", "9", "--format", "json"]));
    let report: Value = serde_json::from_str(&report).unwrap();
    for (name, found) in report["sample"].as_object().unwrap() {
        assert_eq!(found["wrong"], 0, "{name}: {found}");
    }
    whole
}

/// The same. Whether it differs from a merge that rounds once.
fn differs(dir: &Path, base: &Path, loras: &[&str], options: &[&str]) -> bool {
    let (whole, once) = (check(dir, base, loras, options), dir.join("once"));
    succeed(merge(base, loras, &once).args(options));
    files(&once) != files(&whole)
}

fn magnitudes(name: &str, count: usize) -> Tensor {
    // Magnitudes are norms: positive, and of the size of a row.
    let values: Vec<f32> = values(name, count).iter().map(|v| v.abs() * 10.0 + 0.3).collect();
    Tensor { name: name.to_owned(), dtype: Dtype::F32, shape: vec![count], bytes: encode(Dtype::F32, &values) }
}

fn key(name: &str) -> String {
    format!("base_model.model.{name}")
}

/// DoRA on the linears and on the embedding, whose norms are those of columns.
fn dora(dir: &Path, model: &Model, seed: &str) -> PathBuf {
    let (h, embedding) = (model.hidden, key("model.embed_tokens"));
    let linears = (0..model.layers).flat_map(|i| {
        [("self_attn.q_proj", h), ("self_attn.v_proj", h / 2), ("mlp.down_proj", h)].map(|(module, outputs)| {
            magnitudes(&key(&format!("model.layers.{i}.{module}.lora_magnitude_vector")), outputs)
        })
    });
    let mut more: Vec<Tensor> = linears.collect();
    more.push(magnitudes(&format!("{embedding}.lora_magnitude_vector"), h));
    more.push(tensor(&format!("{embedding}.lora_embedding_A"), Dtype::F32, &[4, model.vocab]));
    more.push(tensor(&format!("{embedding}.lora_embedding_B"), Dtype::F32, &[h, 4]));
    lora_with(dir, model, 4, seed, json!({"use_dora": true}), more)
}

/// Rows of the embedding and the whole head replaced, in fp32.
fn replacing(dir: &Path, model: &Model, seed: &str) -> PathBuf {
    let rows = tensor(&key("model.embed_tokens.token_adapter.trainable_tokens_delta"), Dtype::F32, &[2, model.hidden]);
    let head = tensor(&key("lm_head.modules_to_save.weight"), Dtype::F32, &[model.vocab, model.hidden]);
    let config = json!({"trainable_token_indices": [90, 3], "modules_to_save": ["lm_head"]});
    lora_with(dir, model, 4, seed, config, vec![rows, head])
}

/// LoRA on the embedding and on the head.
fn on_embeddings(dir: &Path, model: &Model, seed: &str) -> PathBuf {
    let (h, v) = (model.hidden, model.vocab);
    let more = vec![
        tensor(&key("model.embed_tokens.lora_embedding_A"), Dtype::F32, &[4, v]),
        tensor(&key("model.embed_tokens.lora_embedding_B"), Dtype::F32, &[h, 4]),
        tensor(&key("lm_head.lora_A.weight"), Dtype::F32, &[4, h]),
        tensor(&key("lm_head.lora_B.weight"), Dtype::F32, &[v, 4]),
    ];
    lora_with(dir, model, 4, seed, json!({}), more)
}

#[test]
fn it_gives_the_bytes_of_merges_one_after_another() {
    for dtype in [Dtype::BF16, Dtype::F16] {
        let dir = tempfile::tempdir().unwrap();
        let model = Model { dtype, ..Model::SMALL };
        let base = model.write(&dir.path().join("base"));
        let at = |name: &str| dir.path().join(name);
        let plain = lora(&at("plain"), &model, 4, "a").to_str().unwrap().to_owned();
        let adapters = [
            ("lora", lora(&at("lora"), &model, 7, "b")),
            ("dora", dora(&at("dora"), &model, "c")),
            ("replacing", replacing(&at("replacing"), &model, "d")),
            ("embeddings", on_embeddings(&at("embeddings"), &model, "e")),
        ];
        let paths: Vec<&str> = adapters.iter().map(|(_, path)| path.to_str().unwrap()).collect();
        for (name, path) in adapters.iter().map(|(name, _)| *name).zip(&paths) {
            let pairs = [[plain.as_str(), path], [path, plain.as_str()]];
            for (at, loras) in pairs.iter().enumerate() {
                let dir = at_folder(dir.path(), &format!("{name}-{at}"));
                assert!(differs(&dir, &base, loras, &[]), "{name} with {dtype:?} is the same as rounding once");
            }
        }
        let weighted = format!("{plain}=0.5");
        assert!(differs(&at_folder(dir.path(), "twice"), &base, &[&weighted, &weighted], &[]));
        // Rounded once, the two DoRAs at the beginning would be one of weight 2, which is refused.
        let again = [paths[1], paths[1], paths[3], paths[2], paths[0], paths[1]];
        check(&at_folder(dir.path(), "six"), &base, &again, &[]);
    }
}

fn at_folder(dir: &Path, name: &str) -> PathBuf {
    let folder = dir.join("cases").join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn experts_are_rounded_one_by_one_and_stacked() {
    for (base, loras) in [
        ("moe-deepseek-bf16", ["experts-deepseek/adapter"; 2]),
        (
            "moe-square-stacked-bf16",
            ["experts-one-by-one-then-stacked/adapter-1", "experts-one-by-one-then-stacked/adapter-2"],
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let loras = loras.map(golden);
        let loras = loras.each_ref().map(|path| path.to_str().unwrap());
        assert!(differs(dir.path(), &golden("bases").join(base), &loras, &[]), "{base}");
    }
}

/// The first merge converts every tensor of the base, also those that only the second adapter changes.
#[test]
fn a_base_that_is_converted_is_rounded_before_the_second_adapter() {
    let model = Model { dtype: Dtype::F32, ..Model::SMALL };
    let dir = tempfile::tempdir().unwrap();
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let b = on_embeddings(&dir.path().join("b"), &model, "b");
    let loras = [a.to_str().unwrap(), b.to_str().unwrap()];
    for dtype in ["bf16", "f16"] {
        assert!(differs(&at_folder(dir.path(), dtype), &base, &loras, &["--dtype", dtype]));
    }
    assert!(!differs(&at_folder(dir.path(), "keep"), &base, &loras, &[]), "fp32 holds every sum");
    let stacked = golden("bases/moe-mixtral-stacked-f32");
    let experts = golden("experts-stacked/adapter");
    let experts = [experts.to_str().unwrap(); 2];
    assert!(differs(&at_folder(dir.path(), "experts"), &stacked, &experts, &["--dtype", "f16"]));
}

#[test]
fn a_sum_that_overflows_between_two_adapters_is_refused_although_the_end_would_fit() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { dtype: Dtype::F16, ..Model::SMALL };
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let (up, down) = (format!("{}=1e7", a.display()), format!("{}=-1e7", a.display()));
    let out = dir.path().join("out");
    let (code, kind, message) = fail(merge(&base, &[&up, &down], &out).args(PER_ADAPTER));
    assert_eq!((code, kind.as_str()), (1, "non_finite"), "{message}");
    assert!(message.contains("overflows F16 between two adapters") && message.contains("--rounding once"), "{message}");
    assert!(message.contains("after adapter 1"), "{message}");
    assert!(!out.exists());
    succeed(&mut merge(&base, &[&up, &down], &out));
}
