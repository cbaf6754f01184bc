//! Adapters whose keys carry the names of training wrappers.

use std::path::Path;

use serde_json::Value;
use shardfuse_testkit::checkpoint::{self, Model, lora};

use crate::output::assert_same;
use crate::tool::{command, fail, merge, succeed};

/// The name of every tensor of an adapter becomes what `name` makes of it.
fn rename(adapter: &Path, name: impl Fn(&str) -> String) {
    let file = adapter.join("adapter_model.safetensors");
    let mut tensors = checkpoint::read(&file);
    tensors.iter_mut().for_each(|t| t.name = name(&t.name));
    checkpoint::write(&file, &tensors);
}

#[test]
fn a_wrapped_adapter_merges_as_the_bare_one_and_the_plan_names_the_wrapper() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { files: 1, ..Model::SMALL };
    let base = model.write(&dir.path().join("base"));
    let adapter = lora(&dir.path().join("a"), &model, 4, "a");
    let bare = dir.path().join("bare");
    succeed(&mut merge(&base, &[adapter.to_str().unwrap()], &bare));
    type Wrap = fn(&str) -> String;
    let wraps: [(&str, Wrap); 5] = [
        ("_orig_mod (torch.compile)", |name| format!("_orig_mod.{name}")),
        ("module (DataParallel", |name| format!("module.{name}")),
        ("_fsdp_wrapped_module (FSDP)", |name| name.replace(".self_attn.", "._fsdp_wrapped_module.self_attn.")),
        ("base_model.model (a PEFT model in a PEFT model)", |name| format!("base_model.model.{name}")),
        ("query (an attribute around the model)", |name| name.replace("base_model.model.", "base_model.model.query.")),
    ];
    for (i, (said, wrap)) in wraps.into_iter().enumerate() {
        let adapter = lora(&dir.path().join(format!("wrapped-{i}")), &model, 4, "a");
        rename(&adapter, wrap);
        let out = dir.path().join(format!("out-{i}"));
        succeed(&mut merge(&base, &[adapter.to_str().unwrap()], &out));
        assert_same(&bare, &out);
        let plan = succeed(
            command()
                .args(["plan", "--format", "json", "--base"])
                .arg(&base)
                .arg("--lora")
                .arg(&adapter)
                .arg("--output")
                .arg(&out),
        );
        let plan: Value = serde_json::from_str(&plan).unwrap();
        let warnings = &plan["report"]["warnings"];
        assert!(warnings.to_string().contains(said), "{said} is not in {warnings}");
    }
}

#[test]
fn a_wrapper_around_another_model_is_refused_with_its_keys() {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { files: 1, ..Model::SMALL };
    let base = model.write(&dir.path().join("base"));
    let adapter = lora(&dir.path().join("a"), &model, 4, "a");
    rename(&adapter, |name| format!("_orig_mod.{}", name.replace("q_proj", "query")));
    let (code, kind, text) = fail(&mut merge(&base, &[adapter.to_str().unwrap()], &dir.path().join("out")));
    assert_eq!((code, kind.as_str()), (3, "unmatched_keys"));
    assert!(text.contains("_orig_mod.base_model.model.model.layers.0.self_attn.query.lora_A.weight"), "{text}");
}
