//! What programs, shells and packages take from the binary: progress as JSON, a spec on stdin, completions, man pages, the
//! version.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use crate::tool::{command, fail, merge, run, succeed};
use shardfuse_testkit::checkpoint::{Model, lora};

/// The objects of this name on stderr, and how many other lines there are.
fn told(output: &Output, name: &str) -> (Vec<Value>, usize) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    let objects =
        text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()?.get(name).cloned()).collect();
    let objects: Vec<Value> = objects;
    let others = text.lines().count() - objects.len();
    (objects, others)
}

fn merge_of(dir: &Path) -> Command {
    let model = Model::SMALL;
    let base = model.write(&dir.join("base"));
    let adapter = lora(&dir.join("a"), &model, 4, "a");
    merge(&base, &[adapter.to_str().unwrap()], &dir.join("out"))
}

#[test]
fn progress_as_json_is_an_object_a_line_and_ends_with_all_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = merge_of(dir.path());
    command.args(["--format", "json", "--progress", "json"]);
    let output = run(&mut command);
    assert!(output.status.success(), "{output:?}");
    let (lines, others) = told(&output, "progress");
    assert_eq!(others, 0, "{output:?}");
    assert_eq!(lines[0]["stage"], "waiting");
    let last = lines.last().unwrap();
    assert_eq!((&last["stage"], &last["bytes_done"]), (&json!("publishing"), &last["bytes_total"]));
    assert!(last["bytes_total"].as_u64() > Some(0) && last["tasks_done"] == last["tasks_total"], "{last}");
    for pair in lines.windows(2) {
        assert!(pair[0]["bytes_done"].as_u64() <= pair[1]["bytes_done"].as_u64(), "{pair:?}");
    }
    // --quiet prints none of it.
    let output = run(command.arg("--quiet"));
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn a_failure_follows_the_last_progress() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = merge_of(dir.path());
    std::fs::write(dir.path().join("a/adapter_config.json"), "{").unwrap();
    let (code, kind, _) = fail(command.args(["--progress", "json"]));
    assert_eq!((code, kind.as_str()), (3, "bad_config"));
}

#[test]
fn a_spec_is_read_from_stdin() {
    let dir = tempfile::tempdir().unwrap();
    let _ = merge_of(dir.path());
    let at = |name: &str| dir.path().join(name);
    let spec = json!({ "base": at("base"), "lora": [{ "path": at("a"), "weight": 0.5 }], "output": at("out"), "part_size": 4096 });
    let mut command = command();
    command.args(["plan", "--spec", "-", "--format", "json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(spec.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&plan["report"]["adapters"][0]["weight"], &plan["spec"]["part_size"]), (&json!(0.5), &json!(4096)));
}

#[test]
fn man_pages_are_printed_and_written() {
    let dir = tempfile::tempdir().unwrap();
    succeed(command().arg("man").arg("--dir").arg(dir.path().join("man1")));
    let page = std::fs::read_to_string(dir.path().join("man1/shardfuse-merge.1")).unwrap();
    assert_eq!(succeed(command().args(["man", "merge"])), page);
    assert_eq!(succeed(command().arg("man")), std::fs::read_to_string(dir.path().join("man1/shardfuse.1")).unwrap());
    let (code, kind, message) = fail(command().args(["man", "merged", "--error-format", "json"]));
    assert_eq!((code, kind.as_str()), (2, "usage"));
    assert!(message.contains("\"merged\"") && message.contains("merge, plan"), "{message}");
}

#[test]
fn bash_takes_the_completions() {
    let script = succeed(command().args(["completions", "bash"]));
    let typed =
        "COMP_WORDS=(shardfuse merge --bas); COMP_CWORD=2; _shardfuse shardfuse --bas merge; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash").arg("-c").arg(format!("{script}\n{typed}")).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "--base --base-as --base-index", "{output:?}");
}

#[test]
fn the_version_is_the_number_and_what_it_was_built_from() {
    let text = succeed(command().arg("--version"));
    let rest = text.trim_end().strip_prefix(concat!("shardfuse ", env!("CARGO_PKG_VERSION"))).unwrap();
    assert!(rest.is_empty() || rest.starts_with(" (") && rest.ends_with(')'), "{text}");
    // The manifest names the same program.
    let dir = tempfile::tempdir().unwrap();
    succeed(merge_of(dir.path()).arg("--quiet"));
    let manifest = std::fs::read_to_string(dir.path().join("out/shardfuse.json")).unwrap();
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    assert_eq!(manifest["made_by"], text.trim_end());
}
