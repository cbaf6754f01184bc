//! What is written: layout, index, configuration, sidecars, dtypes.

use safetensors::Dtype;
use serde_json::{Value, json};

use crate::output::{files, tensor as read};
use crate::tool::{merge, succeed};
use shardfuse_testkit::checkpoint::{Model, lora, lora_with, tensor};

fn json_of(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn max_shard_size_cuts_anew_and_the_index_adds_up() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { files: 1, ..Model::SMALL };
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let out = dir.path().join("out");
    succeed(merge(&base, &[a.to_str().unwrap()], &out).args(["--max-shard-size", "20kB"]));
    let index = json_of(&out.join("model.safetensors.index.json"));
    let (mut total, mut count) = (0, 0);
    for (name, bytes) in files(&out).iter().filter(|(n, _)| n.ends_with(".safetensors")) {
        let parsed = safetensors::SafeTensors::deserialize(bytes).unwrap();
        let size: usize = parsed.tensors().iter().map(|(_, t)| t.data().len()).sum();
        assert!(size <= 20_000 || parsed.len() == 1, "{name} has {size} bytes");
        for tensor in parsed.names() {
            assert_eq!(index["weight_map"][tensor], json!(name));
            count += 1;
        }
        total += size;
    }
    assert_eq!(index["metadata"]["total_size"], json!(total));
    assert_eq!(index["weight_map"].as_object().unwrap().len(), count);
    assert!(json_of(&out.join("config.json")).is_object());
}

#[test]
fn dtype_converts_the_main_dtype_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { files: 1, ..Model::SMALL };
    let base = model.write(&dir.path().join("base"));
    let mut all = shardfuse_testkit::checkpoint::read(&base.join("model.safetensors"));
    all.push(tensor("model.layers.0.router.bias", Dtype::F32, &[8]));
    let mut mask = tensor("model.mask", Dtype::BF16, &[4]);
    mask.bytes = shardfuse_testkit::checkpoint::encode(Dtype::BF16, &[0.0, f32::NEG_INFINITY, 1.0, -1.0]);
    all.push(mask);
    shardfuse_testkit::checkpoint::write(&base.join("model.safetensors"), &all);
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let out = dir.path().join("out");
    succeed(merge(&base, &[a.to_str().unwrap()], &out).args(["--dtype", "f16"]));
    assert_eq!(read(&out, "model.layers.0.self_attn.q_proj.weight").0, Dtype::F16);
    assert_eq!(read(&out, "model.layers.0.input_layernorm.weight").0, Dtype::F16);
    assert_eq!(read(&out, "model.layers.0.router.bias").0, Dtype::F32);
    assert_eq!(read(&out, "model.mask").2, [0.0, f32::NEG_INFINITY, 1.0, -1.0], "a mask keeps its infinity");
    assert_eq!(json_of(&out.join("config.json"))["torch_dtype"], "float16");
}

#[test]
fn sidecars_travel_and_the_adapters_tokenizer_wins() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::SMALL;
    let base = model.write(&dir.path().join("base"));
    std::fs::create_dir(base.join("1_Pooling")).unwrap();
    for (name, text) in [
        ("modeling_own.py", "raise SystemExit"),
        ("1_Pooling/config.json", "{}"),
        ("consolidated.safetensors", "stale"),
        ("special_tokens_map.json", "{}"),
    ] {
        std::fs::write(base.join(name), text).unwrap();
    }
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    std::fs::write(a.join("tokenizer.model"), "the adapter's").unwrap();
    let names =
        |out: &std::path::Path| files(out).into_keys().filter(|n| !n.contains("safetensors")).collect::<Vec<_>>();
    let out = dir.path().join("out");
    succeed(&mut merge(&base, &[a.to_str().unwrap()], &out));
    assert_eq!(
        names(&out),
        [
            "1_Pooling/config.json",
            "config.json",
            "generation_config.json",
            "modeling_own.py",
            "special_tokens_map.json",
            "tokenizer.model"
        ]
    );
    let kept = dir.path().join("kept");
    succeed(merge(&base, &[a.to_str().unwrap()], &kept).args(["--tokenizer", "base"]));
    assert!(
        names(&kept).contains(&"tokenizer.json".to_owned()) && !names(&kept).contains(&"tokenizer.model".to_owned())
    );
}

#[test]
fn one_changed_side_of_a_tied_model_unties_it() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { files: 1, ..Model::SMALL };
    let base = model.write(&dir.path().join("base"));
    let config =
        json!({"model_type": "llama", "vocab_size": 96, "torch_dtype": "bfloat16", "tie_word_embeddings": true});
    shardfuse_testkit::checkpoint::write_json(&base.join("config.json"), &config);
    let mut tied = shardfuse_testkit::checkpoint::read(&base.join("model.safetensors"));
    tied.retain(|t| t.name != "lm_head.weight");
    shardfuse_testkit::checkpoint::write(&base.join("model.safetensors"), &tied);
    let more = vec![
        tensor("base_model.model.lm_head.lora_A.weight", Dtype::F32, &[4, 64]),
        tensor("base_model.model.lm_head.lora_B.weight", Dtype::F32, &[96, 4]),
    ];
    let a = lora_with(&dir.path().join("a"), &model, 4, "a", json!({}), more);
    let out = dir.path().join("out");
    succeed(&mut merge(&base, &[a.to_str().unwrap()], &out));
    assert_eq!(json_of(&out.join("config.json"))["tie_word_embeddings"], false);
    let (_, shape, head) = read(&out, "lm_head.weight");
    let (_, _, embedding) = read(&out, "model.embed_tokens.weight");
    assert_eq!(shape, [96, 64]);
    assert_eq!(embedding, read(&base, "model.embed_tokens.weight").2);
    assert_ne!(head, embedding);
    // Without a change on either side the model stays tied, and no head appears.
    let plain = lora(&dir.path().join("plain"), &model, 4, "b");
    let kept = dir.path().join("kept");
    succeed(&mut merge(&base, &[plain.to_str().unwrap()], &kept));
    assert_eq!(json_of(&kept.join("config.json"))["tie_word_embeddings"], true);
}

#[test]
fn an_adapter_of_weight_0_gives_no_tokenizer() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::SMALL;
    let base = model.write(&dir.path().join("base"));
    let (a, b) = (lora(&dir.path().join("a"), &model, 4, "a"), lora(&dir.path().join("b"), &model, 4, "b"));
    std::fs::write(b.join("tokenizer.json"), "{\"b\": true}").unwrap();
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let (zero, minus) = (format!("{b}=0"), format!("{b}=-1"));
    let plus = format!("{b}=1");
    for (i, (loras, of)) in [
        (vec![a, b], "b"),
        (vec![a, zero.as_str()], "base"),
        // Uses that follow one another are one use, with the sum of their weights.
        (vec![a, plus.as_str(), minus.as_str()], "base"),
    ]
    .into_iter()
    .enumerate()
    {
        let out = dir.path().join(format!("out{i}"));
        succeed(&mut merge(&base, &loras, &out));
        assert_eq!(json_of(&out.join("tokenizer.json")), json!({of: true}), "{loras:?}");
    }
}

#[test]
fn an_old_outputs_vocabulary_files_do_not_stay_beside_the_new_ones() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model::SMALL;
    let base = model.write(&dir.path().join("base"));
    let a = lora(&dir.path().join("a"), &model, 4, "a");
    let out = dir.path().join("out");
    std::fs::create_dir_all(out.join("archive")).unwrap();
    for name in ["config.json", "tokenizer.model", "vocab.json", "tokenizer_config.json", "archive/tokenizer.model"] {
        std::fs::write(out.join(name), "old").unwrap();
    }
    succeed(merge(&base, &[a.to_str().unwrap()], &out).arg("--force"));
    assert!(!out.join("tokenizer.model").exists() && !out.join("vocab.json").exists());
    assert_eq!(json_of(&out.join("tokenizer.json")), json!({"base": true}));
    for kept in ["tokenizer_config.json", "archive/tokenizer.model"] {
        assert_eq!(
            std::fs::read_to_string(out.join(kept)).unwrap(),
            "old",
            "{kept} holds no vocabulary of this folder"
        );
    }
}
