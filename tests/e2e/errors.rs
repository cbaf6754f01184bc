//! `docs/errors.md`: every kind of failure has its section, and the examples are what the binary prints.
//!
//! The examples are the blocks marked `console`. Each line that begins with `$ ` is run in a scratch folder, which [`scene`] makes;
//! the lines below it are what stdout and stderr then hold, with that folder as `…`.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Stdio;

use safetensors::Dtype;
use serde_json::json;
use shardfuse_merge::Kind;
use shardfuse_testkit::checkpoint::{Model, lora, lora_with, read, tensor, write, write_json};

use crate::BINARY;
use crate::tool::{command, run};

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");

/// The inputs that the examples name.
fn scene(at: &Path) {
    let model = Model::SMALL;
    model.write(&at.join("base"));
    let good = lora(&at.join("lora"), &model, 4, "a");
    let copy = |name: &str| {
        let to = at.join(name);
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(&good).unwrap().flatten() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
        to
    };
    copy("run/checkpoint-500");
    copy("run/checkpoint-1000");
    let weights =
        |folder: &str, bytes: &[u8]| fs::write(copy(folder).join("adapter_model.safetensors"), bytes).unwrap();
    weights("page", b"<!DOCTYPE html><title>404</title>");
    weights("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1048576\n");
    let whole = fs::read(good.join("adapter_model.safetensors")).unwrap();
    weights("cut", &whole[..whole.len() - 100]);
    fs::write(copy("stray").join("value_head.bin"), b"x").unwrap();
    fs::write(copy("torn").join("adapter_config.json"), b"{\"peft_type\": ").unwrap();
    write_json(&copy("prompt").join("adapter_config.json"), &json!({"peft_type": "PROMPT_TUNING"}));
    let untrained = copy("untrained").join("adapter_model.safetensors");
    let mut tensors = read(&untrained);
    tensors.iter_mut().filter(|t| t.name.contains("lora_B")).for_each(|t| t.bytes.fill(0));
    write(&untrained, &tensors);
    let key =
        |module: &str, part: &str| format!("base_model.model.model.layers.0.self_attn.{module}.lora_{part}.weight");
    let with = |name: &str, more: Vec<_>| lora_with(&at.join(name), &model, 4, "a", json!({}), more);
    with(
        "other",
        vec![tensor(&key("query", "A"), Dtype::F32, &[4, 64]), tensor(&key("query", "B"), Dtype::F32, &[64, 4])],
    );
    with("half", vec![tensor("base_model.model.lm_head.lora_A.weight", Dtype::F32, &[4, 64])]);
    let pair = |a: &[usize], b: &[usize]| {
        let name = |part: &str| format!("base_model.model.lm_head.lora_{part}.weight");
        vec![tensor(&name("A"), Dtype::F32, a), tensor(&name("B"), Dtype::F32, b)]
    };
    with("ranks", pair(&[4, 64], &[96, 8]));
    with("wide", pair(&[4, 80], &[96, 4]));
    with("empty", pair(&[4, 0], &[96, 4]));
    let mut nan = pair(&[4, 64], &[96, 4]);
    nan[0].bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    with("nan", nan);
    let index = at.join("index");
    model.write(&index);
    let name = "model.safetensors.index.json";
    write_json(&index.join(name), &json!({"weight_map": {"lm_head.weight": "../secret.safetensors"}}));
    let torn = Model { files: 2, ..model };
    let torn = torn.write(&at.join("torn-index"));
    let mut map: serde_json::Value = serde_json::from_slice(&fs::read(torn.join(name)).unwrap()).unwrap();
    map["weight_map"]["lm_head.bias"] = json!("model-00001-of-00002.safetensors");
    write_json(&torn.join(name), &map);
    fs::create_dir_all(at.join("full")).unwrap();
    fs::write(at.join("full/notes.txt"), "mine").unwrap();
}

struct Example {
    line: usize,
    command: String,
    output: String,
}

fn examples(text: &str) -> Vec<Example> {
    let mut found: Vec<Example> = Vec::new();
    let mut inside = false;
    for (number, line) in text.lines().enumerate() {
        match (inside, line) {
            (false, "```console") => inside = true,
            (true, "```") => inside = false,
            (true, line) => match line.strip_prefix("$ ") {
                Some(command) => {
                    found.push(Example { line: number + 1, command: command.to_owned(), output: String::new() });
                }
                None => {
                    let example = found.last_mut().expect("a block begins with a command");
                    writeln!(example.output, "{line}").unwrap();
                }
            },
            _ => {}
        }
    }
    found
}

/// What a command prints, with the scratch folder as `…`.
fn printed(command_line: &str, at: &Path) -> String {
    let arguments = command_line.strip_prefix("shardfuse ").expect("examples run shardfuse");
    let mut shell = command();
    shell = {
        let mut sh = std::process::Command::new("sh");
        sh.args(["-c", &format!("exec \"$0\" {arguments} 2>&1"), BINARY]).stdin(Stdio::null()).current_dir(at);
        for (name, value) in shell.get_envs() {
            match value {
                Some(value) => _ = sh.env(name, value),
                None => _ = sh.env_remove(name),
            }
        }
        // Credentials of the machine that runs the test are none of the example's.
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"] {
            sh.env_remove(name);
        }
        sh
    };
    let output = run(&mut shell);
    String::from_utf8(output.stdout).unwrap().replace(at.to_str().unwrap(), "…")
}

#[test]
fn the_examples_are_what_the_binary_prints() {
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let examples = examples(&text);
    assert!(examples.len() >= 20, "only {} examples are read", examples.len());
    let dir = tempfile::tempdir().unwrap();
    // A link on the way to the scratch folder would be shown as what it leads to.
    let at = dir.path().canonicalize().unwrap();
    scene(&at);
    let mut wrong = String::new();
    for Example { line, command, output } in examples {
        let printed = printed(&command, &at);
        if printed != output {
            write!(wrong, "line {line}: $ {command}\n{printed}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "docs/errors.md says otherwise than the binary:\n{wrong}");
}

#[test]
fn every_kind_has_its_section_with_its_exit_code() {
    let text = fs::read_to_string(DOCUMENT).unwrap();
    let table = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/cli.md")).unwrap();
    let of_table: BTreeSet<(String, String)> = table
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `")?.split('|');
            let kind = cells.next()?.trim().trim_end_matches('`').to_owned();
            let code = cells.next()?.trim().to_owned();
            Kind::parse(&kind).map(|_| (kind, code))
        })
        .collect();
    let sections: BTreeSet<(String, String)> = text
        .lines()
        .filter_map(|line| {
            let (kind, code) = line.strip_prefix("## `")?.split_once("` (exit code ")?;
            Some((kind.to_owned(), code.strip_suffix(')')?.to_owned()))
        })
        .collect();
    assert_eq!(sections, of_table, "docs/errors.md and the table of docs/cli.md");
    assert!(sections.len() > 30, "{sections:?}");
}
