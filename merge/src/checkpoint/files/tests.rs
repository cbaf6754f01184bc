use super::*;

fn found(names: &[&str]) -> Vec<Found> {
    let file = |n: &&str| Found { name: (*n).to_owned(), size: Some(10), what: What::File };
    names.iter().map(file).collect()
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

/// The names of one fate.
fn of(fates: &[FileFate], fate: Fate) -> Vec<&str> {
    fates.iter().filter(|f| f.fate == fate).map(|f| f.name.as_str()).collect()
}

const WEIGHTS: &str = "model.safetensors";

#[test]
fn weights_of_other_kinds_and_their_folders_stay_behind_in_the_top_folder() {
    let names = [
        "model.fp16.safetensors",
        "model-00001-of-00002.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model.bin.index.json",
        "consolidated.00.pth",
        "consolidated.safetensors",
        "model-Q4_K_M.gguf",
        "model.ggml",
        "decoder.onnx",
        "decoder.onnx_data",
        "tf_model.h5",
        "flax_model.msgpack",
        "rust_model.ot",
        "adapter_config.json",
        "adapter_model.safetensors",
        "adapter_model.bin",
        "events.out.tfevents.17",
        "run.tfevents",
        "optimizer.pt",
        "scheduler.pt",
        "scaler.pt",
        "rng_state_0.pth",
        "training_args.bin",
        "shardfuse.json",
    ];
    let folders =
        ["original/", "metal/", "onnx/", "openvino/", "checkpoint-50/", "global_step50/", ".cache/", "a/.git/"];
    let within: Vec<String> = folders.iter().map(|f| format!("{f}x.bin")).collect();
    let mut all = found(&names);
    all.extend(found(&within.iter().map(String::as_str).collect::<Vec<_>>()));
    let fates = base(&all, &strings(&[WEIGHTS]), &Asked::default()).unwrap();
    let mut expected: Vec<&str> = names.into_iter().chain(folders).collect();
    expected.sort_unstable();
    assert_eq!(of(&fates, Fate::Stays), expected);
    assert!(fates.iter().all(|f| !f.why.is_empty() && f.size == 10));
}

#[test]
fn everything_else_of_a_base_travels_weight_files_in_sub_folders_included() {
    let names = [
        ".gitattributes",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "3_Dense/pytorch_model.bin",
        "5gram.bin",
        "README.md",
        "assets/spk.pt",
        "chat_template.jinja",
        "lora/adapter_config.json",
        "modeling_x.py",
        "modules.json",
        "speaker.npz",
        "spk_dict.pt",
        "sub/onnx/decoder.onnx",
        "sub/optimizer.pt",
        "tokenizer.json",
        "trainer_state.json",
        "vae/model.safetensors.index.json",
    ];
    let fates = base(&found(&names), &strings(&[WEIGHTS]), &Asked::default()).unwrap();
    assert_eq!(of(&fates, Fate::Travels), names);
}

#[test]
fn what_the_model_uses_is_not_left_whatever_its_name() {
    let own = strings(&["model.safetensors.index.json", "weights-1.safetensors"]);
    let fates = base(
        &found(&["config.json", "model.safetensors.index.json", "weights-1.safetensors"]),
        &own,
        &Asked::default(),
    );
    let fates = fates.unwrap();
    assert_eq!(of(&fates, Fate::Merged), ["weights-1.safetensors"]);
    assert_eq!(of(&fates, Fate::Read), ["config.json", "model.safetensors.index.json"]);
}

#[test]
fn files_of_a_folder_that_stays_are_counted_together() {
    let fates = base(&found(&["onnx/a", "onnx/b/c", "onnx/d"]), &[], &Asked::default()).unwrap();
    assert_eq!(fates.len(), 1);
    assert_eq!((fates[0].name.as_str(), fates[0].files, fates[0].size), ("onnx/", 3, 30));
}

#[test]
fn an_input_within_another_is_left_to_itself() {
    let inner = strings(&["lora/"]);
    let asked = Asked { inner: &inner, ..Asked::default() };
    let files = found(&["lora/adapter_model.safetensors", "lora2/adapter_model.safetensors"]);
    let fates = base(&files, &[], &asked).unwrap();
    assert_eq!(
        (of(&fates, Fate::Stays), of(&fates, Fate::Travels)),
        (vec!["lora/"], vec!["lora2/adapter_model.safetensors"])
    );
    let files = found(&["lora/model.safetensors"]);
    assert!(adapter(&files, &[], &asked).is_ok(), "the base may lie in the adapter's folder");
}

#[test]
fn what_a_download_leaves_is_refused_under_any_name() {
    for name in [
        "tokenizer.json.incomplete",
        "2_Dense/model.safetensors.part",
        "model-00001-of-00002.safetensors.aria2",
        "model.safetensors.crdownload",
        ".model.safetensors.x7YbQ2",
        ".cache/huggingface/download/x.incomplete",
    ] {
        for error in [
            base(&found(&[name]), &[], &Asked::default()).unwrap_err(),
            adapter(&found(&[name]), &[], &Asked::default()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::MissingFile, "{name}");
            assert!(error.message().starts_with(&format!("{name} is left of a download")), "{error}");
        }
        let ignore = strings(&[name]);
        assert!(base(&found(&[name]), &[], &Asked { ignore: &ignore, ..Asked::default() }).is_ok(), "{name}");
    }
    for name in ["onnx/model.onnx.part", ".cache/pip/x.incomplete"] {
        assert!(base(&found(&[name]), &[], &Asked::default()).is_ok(), "{name} stays behind anyway");
    }
    assert!(base(&found(&[".a.b", ".config.backup"]), &[], &Asked::default()).is_ok());
}

#[test]
fn what_cannot_be_read_is_refused_where_it_would_travel_and_named_where_not() {
    let odd = |name: &str, what: What| vec![Found { name: name.into(), size: None, what }];
    let gone = || What::Unreadable("is a link to blobs/1, which is not there".into());
    let error = base(&odd("tokenizer.json", gone()), &[], &Asked::default()).unwrap_err();
    assert_eq!(error.message(), "tokenizer.json is a link to blobs/1, which is not there");
    assert!(error.advice().is_some_and(|h| h.contains("--ignore-file tokenizer.json")), "{error:?}");
    let error = base(&odd(WEIGHTS, gone()), &strings(&[WEIGHTS]), &Asked::default()).unwrap_err();
    assert!(error.message().starts_with("model.safetensors is a link to blobs/1"), "{error}");
    let fates = base(&odd("optimizer.pt", gone()), &[], &Asked::default()).unwrap();
    assert_eq!(fates[0].why, "the state of training; it is a link to blobs/1, which is not there");
    let fates = base(&odd("again", What::Alias("one".into())), &[], &Asked::default()).unwrap();
    assert_eq!((fates[0].fate, fates[0].why.as_str()), (Fate::Stays, "a link to a folder that is listed as one"));
    assert!(adapter(&odd("mm_projector.bin", gone()), &[], &Asked::default()).is_err());
}

#[test]
fn every_file_of_an_adapter_is_merged_or_named() {
    let own = strings(&["adapter_model.safetensors"]);
    let names = [
        "README.md",
        "adapter_config.json",
        "adapter_model.bin",
        "adapter_model.safetensors",
        "aligner.safetensors",
        "checkpoint-5/adapter_model.safetensors",
        "checkpoint-5/optimizer.pt",
        "mm_projector.bin",
        "non_lora_state_dict.bin",
        "non_lora_trainables.bin",
        "optimizer.pt",
        "reward/adapter_config.json",
        "reward/adapter_model.safetensors",
        "runs/today/log",
        "tokenizer.json",
        "training_args.bin",
        "vit.safetensors",
    ];
    let fates = adapter(&found(&names), &own, &Asked::default()).unwrap();
    let merged = [
        "adapter_model.safetensors",
        "aligner.safetensors",
        "mm_projector.bin",
        "non_lora_state_dict.bin",
        "non_lora_trainables.bin",
        "vit.safetensors",
    ];
    assert_eq!(of(&fates, Fate::Merged), merged);
    assert_eq!(of(&fates, Fate::Read), ["adapter_config.json"]);
    assert_eq!(of(&fates, Fate::Travels), ["tokenizer.json"]);
    let stays =
        ["README.md", "adapter_model.bin", "checkpoint-5/", "optimizer.pt", "reward/", "runs/", "training_args.bin"];
    assert_eq!(of(&fates, Fate::Stays), stays);
    assert_eq!(fates.iter().map(|f| f.files).sum::<u64>(), names.len() as u64, "every file is counted once");
}

#[test]
fn other_weight_files_of_an_adapter_are_refused_by_name_with_two_ways_out() {
    let own = strings(&["adapter_model.safetensors"]);
    for name in [
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "value_head.safetensors",
        "new_embeddings.safetensors",
        "extra.pt",
        "merged/model.safetensors",
        "adapter_model-00001-of-00002.safetensors",
        "lora.gguf",
    ] {
        let refused = |asked: &Asked<'_>| adapter(&found(&["adapter_model.safetensors", name]), &own, asked);
        let error = refused(&Asked::default()).unwrap_err();
        assert_eq!(error.kind(), Kind::UnusedFile, "{name}");
        assert!(error.message().starts_with(&format!("{name} ")), "{error}");
        let hint = error.advice().unwrap();
        assert!(hint.contains(&format!("--extra-weights {name}")) && hint.contains(&format!("--ignore-file {name}")));
        let name = strings(&[name]);
        let fates = refused(&Asked { ignore: &name, ..Asked::default() }).unwrap();
        assert_eq!(of(&fates, Fate::Stays), name);
        let fates = refused(&Asked { extra: &name, ..Asked::default() }).unwrap();
        assert!(of(&fates, Fate::Merged).contains(&name[0].as_str()));
    }
}

#[test]
fn a_whole_folder_can_be_left_out() {
    let files = found(&["adapter_model.safetensors", "merged/a/model-1.safetensors", "merged/model-2.safetensors"]);
    let own = strings(&["adapter_model.safetensors"]);
    let error = adapter(&files, &own, &Asked::default()).unwrap_err();
    assert!(error.advice().unwrap().ends_with("--ignore-file merged/a/ the whole folder"), "{error:?}");
    let ignore = strings(&["merged/"]);
    let fates = adapter(&files, &own, &Asked { ignore: &ignore, ..Asked::default() }).unwrap();
    assert_eq!((fates.len(), fates[1].name.as_str(), fates[1].files), (2, "merged/", 2));
}

#[test]
fn a_refusal_names_many_files_and_counts_the_rest() {
    let names: Vec<String> = (0..30).map(|i| format!("w{i:02}.pt")).collect();
    let found = found(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let error = adapter(&found, &[], &Asked::default()).unwrap_err();
    assert!(error.message().contains("w00.pt") && error.message().ends_with("; and 10 more"), "{error}");
}

#[test]
fn a_pickle_alone_is_the_adapter_and_beside_another_format_it_is_not() {
    let fates = adapter(&found(&["adapter_model.bin"]), &strings(&["adapter_model.bin"]), &Asked::default()).unwrap();
    assert_eq!(of(&fates, Fate::Merged), ["adapter_model.bin"]);
    let own = strings(&["adapter_model.safetensors.index.json", "adapter_model-00001-of-00001.safetensors"]);
    let names = ["adapter_model-00001-of-00001.bin", "adapter_model.bin.index.json"];
    assert_eq!(of(&adapter(&found(&names), &own, &Asked::default()).unwrap(), Fate::Stays), names);
}

#[test]
fn flags_that_name_what_is_needed_or_not_there_are_refused() {
    let own = strings(&["adapter_model.safetensors"]);
    let all = found(&["adapter_config.json", "adapter_model.safetensors"]);
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        let name = strings(&[name]);
        let error = adapter(&all, &own, &Asked { ignore: &name, ..Asked::default() }).unwrap_err();
        assert_eq!(error.kind(), Kind::Usage);
    }
    assert_eq!(adapter(&all, &own, &Asked { extra: &own, ..Asked::default() }).unwrap_err().kind(), Kind::Usage);
    assert!(all_met("--ignore-file", &strings(&["a"]), ["a", "b"].into_iter()).is_ok());
    assert!(all_met("--ignore-file", &strings(&["m/"]), ["m/a"].into_iter()).is_ok());
    let error = all_met("--ignore-file", &strings(&["c"]), ["a", "b"].into_iter()).unwrap_err();
    assert!(error.message().starts_with("--ignore-file names c"), "{error}");
}

#[test]
fn a_star_stands_for_any_number_of_characters() {
    for (pattern, name, yes) in [
        ("model*.safetensors", "model.safetensors", true),
        ("model*.safetensors", "model.safetensors.part", false),
        ("*.onnx*", "é.onnx_data", true),
        ("a*b*c", "abcbc", true),
        ("a*b*c", "acb", false),
        ("exact", "exact", true),
        ("exact", "exactly", false),
    ] {
        assert_eq!(names::matches(pattern, name), yes, "{pattern} {name}");
    }
}
