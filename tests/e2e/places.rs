//! An output is no input, by whatever name; and where files really lie.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::output::{assert_same, everything};
use crate::tool::{command, fail, merge, run, succeed};
use shardfuse_testkit::checkpoint::{Model, lora};

/// A base and an adapter in a folder of their own.
struct Models {
    dir: tempfile::TempDir,
}

impl Models {
    fn new() -> Models {
        let dir = tempfile::tempdir().unwrap();
        Model::SMALL.write(&dir.path().join("base"));
        lora(&dir.path().join("adapter"), &Model::SMALL, 4, "a");
        Models { dir }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The bytes of both inputs.
    fn inputs(&self) -> [BTreeMap<String, Vec<u8>>; 2] {
        ["base", "adapter"].map(|name| everything(&self.at(name)))
    }

    fn merge(&self, base: &str, adapter: &str, output: &str, flags: &[&str]) -> Command {
        let mut command = merge(&self.at(base), &[self.at(adapter).to_str().unwrap()], &self.at(output));
        command.args(flags);
        command
    }

    /// `merge` and `plan` refuse the output, and nothing is touched.
    fn refuse(&self, base: &str, adapter: &str, output: &str, says: &str) {
        let before = self.inputs();
        for flags in [&["--force"][..], &["--restart"], &["--force", "--restart"], &[]] {
            let (code, kind, text) = fail(&mut self.merge(base, adapter, output, flags));
            assert_eq!((code, kind.as_str()), (2, "usage"), "{output} {flags:?}: {text}");
            assert!(text.contains(says), "{output} {flags:?}: {text}");
            assert!(self.inputs() == before, "{output} {flags:?} changed an input");
        }
        let mut plan = command();
        plan.arg("plan").arg("--base").arg(self.at(base)).arg("--lora").arg(self.at(adapter));
        let (code, _, text) = fail(plan.arg("--output").arg(self.at(output)).args(["--error-format", "json"]));
        assert!(code == 2 && text.contains(says), "plan {output}: {text}");
    }
}

#[test]
fn an_output_that_is_an_input_by_another_name_is_refused_and_nothing_is_touched() {
    let models = Models::new();
    symlink("base", models.at("link")).unwrap();
    symlink("adapter", models.at("adapter-link")).unwrap();
    std::fs::create_dir(models.at("sub")).unwrap();
    for (base, adapter, output) in [
        ("base", "adapter", "base"),
        ("base", "adapter", "link"),
        ("base", "adapter", "sub/../base"),
        ("base", "adapter", "new/../base"),
        ("link", "adapter", "base"),
        ("sub/../base", "adapter", "link"),
        ("base", "adapter", "adapter-link"),
        ("base", "adapter-link", "sub/../adapter"),
    ] {
        models.refuse(base, adapter, output, "is the input");
    }
    assert!(!models.at("new").exists());
    // Beside them the same merge goes through, and gives what it gives anywhere.
    succeed(&mut models.merge("link", "adapter-link", "sub/out", &[]));
    succeed(&mut models.merge("base", "adapter", "out", &[]));
    assert_same(&models.at("sub/out"), &models.at("out"));
}

#[test]
fn an_output_that_is_the_base_by_a_bind_mount_is_refused() {
    // In a mount namespace of its own, so that nothing stays mounted.
    let bind = "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"";
    let mounted = |from: &Path, to: &Path, inner: &Command| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", bind, "sh"]).arg(from).arg(to);
        command.arg(inner.get_program()).args(inner.get_args());
        command
    };
    let models = Models::new();
    std::fs::create_dir_all(models.at("base/inner")).unwrap();
    for name in ["view", "shown"] {
        std::fs::create_dir(models.at(name)).unwrap();
    }
    let probe = mounted(&models.at("base"), &models.at("view"), &Command::new("true")).status();
    if !probe.is_ok_and(|status| status.success()) {
        eprintln!("not run: this machine lets nobody mount (it takes root)");
        return;
    }
    let before = models.inputs();
    for (from, to, output, says) in [
        ("base", "view", "view", "is the input"),
        ("base", "view", "view/merged", "lies in the input"),
        // What is mounted is a folder of the base, so the base is not above it on this path.
        ("base/inner", "view", "view/merged", "lies in the input"),
        ("shown", "base/inner", "shown/merged", "lies in the input"),
        ("adapter", "view", "view", "is the input"),
    ] {
        let merge = models.merge("base", "adapter", output, &["--force"]);
        let (code, kind, text) = fail(&mut mounted(&models.at(from), &models.at(to), &merge));
        assert_eq!((code, kind.as_str()), (2, "usage"), "{from} at {to}: {text}");
        assert!(text.contains(says), "{from} at {to}: {text}");
        assert!(models.inputs() == before, "{from} at {to} changed an input");
    }
}

#[test]
fn an_output_in_an_input_or_around_one_is_refused() {
    let models = Models::new();
    std::fs::create_dir(models.at("base/sub")).unwrap();
    symlink("base/sub", models.at("inner")).unwrap();
    for (output, says) in [
        ("base/merged", "lies in the input"),
        ("base/sub", "lies in the input"),
        ("inner/merged", "lies in the input"),
        ("adapter/merged", "lies in the input"),
        (".", "contains the input"),
        ("base/..", "contains the input"),
    ] {
        models.refuse("base", "adapter", output, says);
    }
    // Later merges of the base carry nothing of the refused one, and verify works.
    succeed(&mut models.merge("base", "adapter", "out", &[]));
    let names: Vec<String> = everything(&models.at("out")).into_keys().collect();
    assert!(!names.iter().any(|name| name.contains("merged")), "{names:?}");
    succeed(command().arg("verify").arg(models.at("out")).args(["--sample", "4"]));
}

#[test]
fn an_adapter_in_the_folder_of_its_base_merges() {
    let models = Models::new();
    succeed(&mut models.merge("base", "adapter", "out", &[]));
    std::fs::rename(models.at("adapter"), models.at("base/adapter")).unwrap();
    succeed(&mut models.merge("base", "base/adapter", "inside", &[]));
    let weights = |dir: &str| {
        let mut all = everything(&models.at(dir));
        all.retain(|name, _| name.ends_with(".safetensors") && !name.contains('/'));
        all
    };
    assert!(weights("inside") == weights("out") && !weights("out").is_empty());
}

#[test]
fn an_output_in_the_state_of_another_merge_is_refused() {
    let models = Models::new();
    std::fs::create_dir_all(models.at("other/.shardfuse/journal")).unwrap();
    symlink("other/.shardfuse", models.at("way-in")).unwrap();
    for output in ["other/.shardfuse", "other/.shardfuse/journal", "way-in/x", "new/.shardfuse/x"] {
        models.refuse("base", "adapter", output, "where a merge keeps its state");
    }
    assert!(everything(&models.at("other")).is_empty() && !models.at("new").exists());
}

#[test]
fn hard_links_to_the_files_of_the_base_are_replaced_and_the_base_stays() {
    let models = Models::new();
    let before = models.inputs();
    for name in ["hard", "soft"] {
        std::fs::create_dir(models.at(name)).unwrap();
        for file in before[0].keys() {
            let (from, to) = (models.at("base").join(file), models.at(name).join(file));
            if name == "hard" { std::fs::hard_link(from, to).unwrap() } else { symlink(from, to).unwrap() }
        }
        succeed(&mut models.merge("base", "adapter", name, &["--force"]));
        assert!(models.inputs() == before, "the base changed through {name} links");
    }
    succeed(&mut models.merge("base", "adapter", "out", &[]));
    assert_same(&models.at("hard"), &models.at("out"));
    assert_same(&models.at("soft"), &models.at("out"));
    assert!(everything(&models.at("out")) != before[0], "the merge changes something");
}

/// `shardfuse job`, alone.
/// What is there of a bystander that a link leads to.
fn bystander(models: &Models) -> BTreeMap<String, Vec<u8>> {
    std::fs::create_dir_all(models.at("bystander/inner")).unwrap();
    for name in ["config.json", "plan", "inner/x"] {
        std::fs::write(models.at("bystander").join(name), name).unwrap();
    }
    everything(&models.at("bystander"))
}

#[test]
fn a_link_in_the_state_of_a_merge_is_refused_and_nothing_behind_it_is_removed() {
    let models = Models::new();
    let before = bystander(&models);
    for (link, target) in [
        (".shardfuse/journal", "../../bystander"),
        (".shardfuse/epoch", "../../bystander"),
        (".shardfuse/deep/er", "../../../bystander"),
        (".shardfuse", "../bystander"),
    ] {
        std::fs::create_dir_all(models.at("out").join(link).parent().unwrap()).unwrap();
        symlink(target, models.at("out").join(link)).unwrap();
        let mut clean = command();
        clean.arg("clean").arg(models.at("out")).args(["--yes", "--error-format", "json"]);
        for tried in [
            &mut models.merge("base", "adapter", "out", &[]),
            &mut models.merge("base", "adapter", "out", &["--force", "--restart"]),
            &mut clean,
        ] {
            let (code, kind, text) = fail(tried);
            assert_eq!((code, kind.as_str()), (3, "unsafe_path"), "{link}: {text}");
            assert!(text.contains(&format!("out/{link} is a link to a folder")), "{text}");
            assert!(everything(&models.at("bystander")) == before, "{link}: something behind the link changed");
        }
        std::fs::remove_dir_all(models.at("out")).unwrap();
    }
}

#[test]
fn a_file_of_the_output_is_not_written_through_a_link_to_a_folder() {
    let models = Models::new();
    let before = bystander(&models);
    std::fs::create_dir(models.at("base/2_Dense")).unwrap();
    std::fs::write(models.at("base/2_Dense/config.json"), "{}").unwrap();
    let inputs = models.inputs();
    std::fs::create_dir(models.at("out")).unwrap();
    for target in ["../bystander", "../base"] {
        symlink(target, models.at("out/2_Dense")).unwrap();
        let (code, kind, text) = fail(&mut models.merge("base", "adapter", "out", &["--force"]));
        assert_eq!((code, kind.as_str()), (3, "unsafe_path"), "{text}");
        assert!(text.contains("2_Dense/config.json of the output would be written through it"), "{text}");
        assert!(everything(&models.at("bystander")) == before && models.inputs() == inputs, "{target}");
        std::fs::remove_file(models.at("out/2_Dense")).unwrap();
    }
    // A link that no file of the output goes through stays, and so does what it leads to.
    symlink("../bystander", models.at("out/mine")).unwrap();
    succeed(&mut models.merge("base", "adapter", "out", &["--force"]));
    assert!(everything(&models.at("bystander")) == before);
    assert!(models.at("out/mine").is_symlink() && models.at("out/2_Dense/config.json").is_file());
}

#[test]
fn an_input_that_links_to_the_output_or_around_it_is_refused() {
    let models = Models::new();
    std::fs::create_dir_all(models.at("runs/o")).unwrap();
    std::fs::create_dir(models.at("side")).unwrap();
    symlink("../runs", models.at("side/on")).unwrap();
    for (link, target) in [("base/outl", "../runs/o"), ("base/outl", "../runs"), ("adapter/x", "../side")] {
        symlink(target, models.at(link)).unwrap();
        let (code, kind, text) = fail(&mut models.merge("base", "adapter", "runs/o", &[]));
        assert_eq!((code, kind.as_str()), (2, "usage"), "{link} {target}: {text}");
        assert!(text.contains("links to") && text.contains("runs/o"), "{text}");
        std::fs::remove_file(models.at(link)).unwrap();
    }
    // A link to somewhere else travels as the folder that it leads to.
    bystander(&models);
    symlink("../bystander", models.at("base/more")).unwrap();
    succeed(&mut models.merge("base", "adapter", "runs/o", &[]));
    assert!(models.at("runs/o/more/inner/x").is_file());
}

#[test]
fn an_output_that_is_a_link_to_nothing_is_named() {
    let models = Models::new();
    symlink("nowhere/merged", models.at("dangling")).unwrap();
    let (code, _, text) = fail(&mut models.merge("base", "adapter", "dangling", &[]));
    assert!(code != 0 && text.contains("is a link to nowhere/merged, which is not there"), "{code} {text}");
}

#[test]
fn an_argument_that_is_not_utf_8_is_a_usage_error() {
    use std::os::unix::ffi::OsStrExt;
    for flags in [&[][..], &["--error-format", "json"]] {
        let mut command = command();
        command.arg(std::ffi::OsStr::from_bytes(b"o\xff")).args(flags);
        let output = run(&mut command);
        assert_eq!(output.status.code(), Some(2), "{output:?}");
    }
}

fn job(base: &Path, adapter: &Path, output: &Path) -> Command {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let mut command = command();
    command.args(["job", "--index", "0", "--part-size", "4KiB", "--memory", "32MiB", "--error-format", "json"]);
    command.args(["--listen", &format!("127.0.0.1:{port}"), "--coordinator", &format!("http://127.0.0.1:{port}")]);
    command.arg("--base").arg(base).arg("--lora").arg(adapter).arg("--output").arg(output);
    command
}

#[test]
fn a_job_takes_what_a_worker_takes_and_a_prefix_narrows_it() {
    let models = Models::new();
    succeed(&mut models.merge("base", "adapter", "out", &[]));
    let allow = models.at("").to_str().unwrap().to_owned();
    let mut by_job = job(&models.at("base"), &models.at("adapter"), &models.at("by-job"));
    by_job.args(["--limit-rate", "1GiB", "--slots", "2", "--name", "pod", "--grace", "5s", "--allow", &allow]);
    succeed(&mut by_job);
    assert_same(&models.at("by-job"), &models.at("out"));
    let outside = models.at("base").to_str().unwrap().to_owned();
    let mut refused = job(&models.at("base"), &models.at("adapter"), &models.at("again"));
    let (code, kind, text) = fail(refused.args(["--allow", &outside]));
    assert_eq!((code, kind.as_str()), (3, "not_allowed"), "{text}");
    assert!(text.contains("adapter"), "{text}");
}

#[test]
fn a_job_with_one_worker_is_refused_a_second_computation_and_touches_nothing() {
    let models = Models::new();
    let mut refused = job(&models.at("base"), &models.at("adapter"), &models.at("out"));
    let (code, kind, text) = fail(refused.args(["--verify-parts", "0.5", "--workers", "1"]));
    assert_eq!((code, kind.as_str()), (2, "usage"), "{text}");
    assert!(text.contains("--verify-parts 0.5 needs at least 2 workers, and this merge has 1"), "{text}");
    assert!(text.contains("leave --verify-parts out"), "the hint: {text}");
    assert!(!models.at("out").exists());
    succeed(job(&models.at("base"), &models.at("adapter"), &models.at("out")).args(["--workers", "1"]));
}

#[test]
fn a_job_is_refused_an_output_that_is_its_base() {
    let models = Models::new();
    symlink("base", models.at("link")).unwrap();
    let before = models.inputs();
    let (code, kind, text) = fail(job(&models.at("base"), &models.at("adapter"), &models.at("link")).arg("--force"));
    assert_eq!((code, kind.as_str()), (2, "usage"), "{text}");
    assert!(text.contains("is the input") && models.inputs() == before, "{text}");
}

#[test]
fn a_job_reads_the_snapshot_of_a_hub_cache_and_no_other_folder_behind_links() {
    let models = Models::new();
    succeed(&mut models.merge("base", "adapter", "out", &[]));
    let (cache, snapshot) = (models.at("hub/models--o--m"), models.at("hub/models--o--m/snapshots/0123"));
    for folder in [cache.join("blobs"), snapshot.clone(), models.at("elsewhere")] {
        std::fs::create_dir_all(folder).unwrap();
    }
    for (i, file) in std::fs::read_dir(models.at("base")).unwrap().enumerate() {
        let file = file.unwrap();
        std::fs::rename(file.path(), cache.join(format!("blobs/{i}"))).unwrap();
        symlink(format!("../../blobs/{i}"), snapshot.join(file.file_name())).unwrap();
    }
    succeed(&mut job(&snapshot, &models.at("adapter"), &models.at("by-job")));
    assert_same(&models.at("by-job"), &models.at("out"));
    // One of the links leads out of the cache.
    let weights = "model-00001-of-00002.safetensors";
    let blob = std::fs::canonicalize(snapshot.join(weights)).unwrap();
    std::fs::rename(blob, models.at("elsewhere/blob")).unwrap();
    std::fs::remove_file(snapshot.join(weights)).unwrap();
    symlink(models.at("elsewhere/blob"), snapshot.join(weights)).unwrap();
    let (code, kind, text) = fail(&mut job(&snapshot, &models.at("adapter"), &models.at("again")));
    assert_eq!((code, kind.as_str()), (3, "not_allowed"), "{text}");
    assert!(text.contains("elsewhere/blob") && text.contains("blobs"), "both places are named: {text}");
    assert!(!models.at("again").exists());
    // A user's own merge follows every link.
    succeed(&mut merge(&snapshot, &[models.at("adapter").to_str().unwrap()], &models.at("by-merge")));
    assert_same(&models.at("by-merge"), &models.at("out"));
}

#[test]
fn names_of_a_hostile_file_reach_no_terminal_as_they_are() {
    use serde_json::json;
    let models = Models::new();
    let nasty = "base_model.model.evil\u{1b}]0;owned\u{7}\nhint: run this\u{202e}.lora_A.weight";
    let stray = shardfuse_testkit::checkpoint::tensor(nasty, safetensors::Dtype::F32, &[4, 64]);
    shardfuse_testkit::checkpoint::lora_with(&models.at("nasty"), &Model::SMALL, 4, "a", json!({}), vec![stray]);
    let text_of = |command: &mut Command| {
        let output = run(command);
        String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
    };
    let adapter = models.at("nasty");
    let mut merge = command();
    merge.arg("merge").arg("--base").arg(models.at("base")).arg("--lora").arg(&adapter);
    let refusal = text_of(merge.arg("--output").arg(models.at("out")).env("SHARDFUSE_LOG", "debug"));
    let inspected = text_of(command().arg("inspect").arg(&adapter));
    for text in [&refusal, &inspected] {
        assert!(text.contains("evil\\u{1b}]0;owned\\u{7}\\nhint: run this\\u{202e}"), "{text}");
        assert!(!text.contains(['\u{1b}', '\u{7}', '\u{202e}']), "{text:?}");
        assert!(!text.lines().any(|line| line.trim_start().starts_with("hint: run this")), "{text}");
    }
    // JSON holds the name itself, by JSON's own escapes.
    let value: serde_json::Value =
        serde_json::from_str(&text_of(command().arg("inspect").arg(&adapter).args(["--format", "json"]))).unwrap();
    assert!(value["tensors"].as_array().unwrap().iter().any(|tensor| tensor["name"] == nasty));
}
