//! Going on after a stop: what is finished stays, and nothing else is taken for finished.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use safetensors::Dtype;

use crate::output::assert_same;
use crate::tool::{command, fail, succeed};
use shardfuse_testkit::checkpoint::{Model, lora};

/// Longer than any of this takes, on any machine.
pub const TIMEOUT: Duration = Duration::from_secs(120);

pub struct Case {
    pub dir: tempfile::TempDir,
    pub base: PathBuf,
    pub lora: PathBuf,
    pub out: PathBuf,
    pub reference: PathBuf,
    /// Bytes of weight files, about.
    pub bytes: u64,
}

/// A model of some megabytes and its undisturbed merge.
pub fn case(hidden: usize, files: usize) -> Case {
    let dir = tempfile::tempdir().unwrap();
    let model = Model { hidden, layers: 4, vocab: 512, dtype: Dtype::BF16, files };
    let base = model.write(&dir.path().join("base"));
    let lora = lora(&dir.path().join("lora"), &model, 8, "a");
    let (out, reference) = (dir.path().join("out"), dir.path().join("reference"));
    let case = Case { base, lora, out, reference, dir, bytes: 0 };
    succeed(&mut case.merge(&case.reference));
    let bytes = std::fs::read_dir(&case.reference).unwrap().flatten().map(|e| e.metadata().unwrap().len()).sum();
    Case { bytes, ..case }
}

impl Case {
    pub fn merge(&self, out: &Path) -> Command {
        let mut merge = command();
        merge.arg("merge").arg("--base").arg(&self.base).arg("--lora").arg(&self.lora).arg("--output").arg(out);
        merge.args(["--part-size", "16KiB", "--memory", "1MiB", "--error-format", "json", "--quiet"]);
        merge
    }

    /// A merge whose writes take about `seconds`.
    pub fn slow(&self, seconds: u64) -> Command {
        let mut merge = self.merge(&self.out);
        merge.args(["--limit-rate", &(self.bytes / seconds).to_string()]);
        merge
    }

    /// Pieces that the journal names, as (task, piece).
    pub fn journaled(&self) -> Vec<(u64, u64)> {
        journaled(&self.out)
    }
}

pub fn journaled(out: &Path) -> Vec<(u64, u64)> {
    let mut pieces = Vec::new();
    for epoch in std::fs::read_dir(out.join(".shardfuse/journal")).into_iter().flatten().flatten() {
        for record in std::fs::read_dir(epoch.path()).into_iter().flatten().flatten() {
            // A record under its temporary name is not journaled yet.
            if record.file_name().to_string_lossy().starts_with('.') {
                continue;
            }
            let Ok(text) = std::fs::read_to_string(record.path()) else { continue };
            let Some(Ok(value)) = text.lines().next().map(serde_json::from_str::<serde_json::Value>) else { continue };
            for piece in value["record"]["pieces"].as_array().into_iter().flatten() {
                pieces.push((piece["task"].as_u64().unwrap(), piece["piece"].as_u64().unwrap()));
            }
        }
    }
    pieces
}

/// Waits until something holds or the process ends. True if it held while the process ran.
pub fn wait_for(child: &mut Child, mut holds: impl FnMut() -> bool) -> bool {
    let started = Instant::now();
    loop {
        if holds() {
            return child.try_wait().unwrap().is_none();
        }
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        assert!(started.elapsed() < TIMEOUT, "neither progress nor an end");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a merge and kills it (SIGKILL) once something holds.
pub fn kill_when(merge: &mut Command, holds: impl FnMut() -> bool) {
    let mut child = merge.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_for(&mut child, holds), "the merge ended before it was killed");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn start(command: &mut Command) -> Child {
    command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn sigint_stops_in_order_with_4_and_the_same_command_goes_on() {
    let case = case(128, 2);
    let mut child = start(&mut case.slow(20));
    assert!(wait_for(&mut child, || case.journaled().len() >= 3), "the merge ended before it was interrupted");
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(4), "{stderr}");
    assert!(stderr.contains("\"interrupted\"") && stderr.contains("same command"), "{stderr}");
    assert!(!case.out.join("config.json").exists());
    let before = case.journaled().len();
    let summary: serde_json::Value =
        serde_json::from_str(&succeed(case.merge(&case.out).args(["--format", "json"]))).unwrap();
    assert_eq!(summary["parts_kept"].as_u64(), Some(before as u64));
    assert_same(&case.out, &case.reference);
}

/// An unfinished merge in `case.out`.
fn interrupted(case: &Case) {
    kill_when(&mut case.slow(20), || case.journaled().len() >= 3);
}

#[test]
fn a_changed_input_refuses_to_go_on_and_is_named() {
    let case = case(128, 2);
    interrupted(&case);
    let file = case.lora.join("adapter_model.safetensors");
    let mut bytes = std::fs::read(&file).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    std::fs::write(&file, bytes).unwrap();
    let (code, kind, text) = fail(&mut case.merge(&case.out));
    assert_eq!((code, kind.as_str()), (3, "input_changed"));
    assert!(text.contains("adapter_model.safetensors") && text.contains("put the input back"), "{text}");
    assert!(text.contains("--restart"), "{text}");
    assert!(!case.out.join("config.json").exists());
    succeed(case.merge(&case.out).arg("--restart"));
    assert!(case.out.join("config.json").exists() && !case.out.join(".shardfuse").exists());
}

/// Sets the time of a file, as `touch` does.
fn touch(file: &Path) {
    let time = std::time::SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_configuration_that_was_only_touched_is_no_change_of_the_input() {
    let case = case(128, 2);
    std::fs::write(case.base.join("README.md"), "---\nlicense: mit\n---\n").unwrap();
    interrupted(&case);
    let kept = case.journaled().len();
    // The card is read and copied, the configuration is read.
    for file in [case.base.join("README.md"), case.base.join("config.json"), case.lora.join("adapter_config.json")] {
        touch(&file);
    }
    let told = succeed(case.merge(&case.out).args(["--format", "json"]));
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert!(told["parts_kept"].as_u64().unwrap() >= kept as u64, "{told}");
    assert_same_weights(&case);
    succeed(command().arg("verify").arg(&case.out).args(["--sample", "2"]));
    succeed(&mut case.merge(&case.out));
}

fn assert_same_weights(case: &Case) {
    for file in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        assert!(std::fs::read(case.out.join(file)).unwrap() == std::fs::read(case.reference.join(file)).unwrap());
    }
}

#[test]
fn of_touched_weights_the_time_is_told_and_no_two_equal_values() {
    let case = case(128, 2);
    interrupted(&case);
    touch(&case.lora.join("adapter_model.safetensors"));
    let (code, kind, text) = fail(&mut case.merge(&case.out));
    assert_eq!((code, kind.as_str()), (3, "input_changed"));
    let (was, is) = text.split_once(": it was ").unwrap().1.split_once(", it is ").unwrap();
    assert!(was.starts_with("of the time ") && is.starts_with("of the time 1000000000.000000000 "), "{text}");
    assert!(text.contains("as it was, with its time"), "{text}");
}

#[test]
fn a_file_of_the_base_that_is_read_and_travels_is_no_change_of_the_input() {
    let case = case(128, 2);
    std::fs::write(case.base.join("README.md"), "---\nlicense: mit\n---\n").unwrap();
    interrupted(&case);
    succeed(&mut case.merge(&case.out));
    assert!(case.out.join("README.base.md").exists());
}

#[test]
fn other_settings_refuse_to_go_on_and_the_difference_is_named() {
    let case = case(128, 2);
    interrupted(&case);
    let (code, kind, text) = fail(case.merge(&case.out).args(["--dtype", "f32"]));
    assert_eq!((code, kind.as_str()), (3, "output_exists"));
    assert!(text.contains("dtype") && text.contains("use the settings that it began with"), "{text}");
    assert!(text.contains("--restart") && !text.contains("input"), "{text}");
}

#[test]
fn memory_and_threads_may_change_between_start_and_resume() {
    let case = case(128, 2);
    interrupted(&case);
    succeed(case.merge(&case.out).args(["--threads", "1"]));
    assert_same(&case.out, &case.reference);
}

#[test]
fn a_part_that_a_reboot_lost_is_made_again() {
    let case = case(128, 1);
    interrupted(&case);
    // Another boot, and the hidden file lost what was never synced.
    let epoch = std::fs::read_dir(case.out.join(".shardfuse/journal")).unwrap().flatten().next().unwrap().path();
    let mut told = 0;
    for record in std::fs::read_dir(epoch).unwrap().flatten() {
        let text = std::fs::read_to_string(record.path()).unwrap();
        let mut value: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        if value["record"]["opened"].is_object() {
            value["record"]["opened"]["boot"] = "another boot".into();
            let line = value.to_string();
            std::fs::write(record.path(), format!("{line}\n{}", blake3::hash(line.as_bytes()).to_hex())).unwrap();
            told += 1;
        }
    }
    assert_eq!(told, 1);
    for file in std::fs::read_dir(case.out.join(".shardfuse/upload")).unwrap().flatten() {
        let len = file.metadata().unwrap().len();
        std::fs::write(file.path(), vec![0; len as usize]).unwrap();
    }
    let summary: serde_json::Value =
        serde_json::from_str(&succeed(case.merge(&case.out).args(["--format", "json"]))).unwrap();
    assert_eq!(summary["parts_kept"].as_u64(), Some(0), "{summary}");
    assert_same(&case.out, &case.reference);
}

#[test]
fn a_finished_merge_is_not_done_again() {
    let case = case(64, 2);
    let manifest = std::fs::read(case.reference.join("shardfuse.json")).unwrap();
    let stamp = std::fs::metadata(case.reference.join("config.json")).unwrap().modified().unwrap();
    let summary: serde_json::Value =
        serde_json::from_str(&succeed(case.merge(&case.reference).args(["--format", "json"]))).unwrap();
    assert_eq!(summary["already_done"], true);
    let first: serde_json::Value =
        serde_json::from_str(&succeed(case.merge(&case.out).args(["--format", "json"]))).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&summary), keys(&first), "a program reads one form");
    assert_eq!((&first["already_done"], &summary["files"]), (&false.into(), &first["files"]));
    assert_eq!(std::fs::read(case.reference.join("shardfuse.json")).unwrap(), manifest);
    let other = case.merge(&case.reference).args(["--dtype", "f32", "--format", "json"]).output().unwrap();
    assert_eq!(other.status.code(), Some(3), "another merge does not replace a finished one by itself");
    assert_eq!(std::fs::metadata(case.reference.join("config.json")).unwrap().modified().unwrap(), stamp);
}

#[test]
fn restart_replaces_a_finished_merge_of_ours() {
    let case = case(64, 2);
    succeed(case.merge(&case.reference).args(["--dtype", "f32", "--restart", "--force"]));
    assert_eq!(crate::output::tensor(&case.reference, "lm_head.weight").0, Dtype::F32);
}

#[test]
fn what_appears_beside_an_unfinished_merge_is_not_cleared_away() {
    let case = case(128, 2);
    interrupted(&case);
    std::fs::write(case.out.join("model.safetensors"), "somebody's own").unwrap();
    succeed(&mut case.merge(&case.out));
    assert_eq!(std::fs::read_to_string(case.out.join("model.safetensors")).unwrap(), "somebody's own");
}

#[test]
fn clean_removes_what_a_killed_merge_left_and_asks_first() {
    let case = case(128, 2);
    interrupted(&case);
    let clean = |flags: &[&str]| {
        let mut clean = command();
        clean.arg("clean").arg(&case.out).args(["--error-format", "json"]).args(flags);
        clean
    };
    let shown: serde_json::Value =
        serde_json::from_str(&succeed(&mut clean(&["--dry-run", "--format", "json"]))).unwrap();
    assert_eq!((shown["removed"].as_bool(), shown["uploads"].as_array().map(Vec::len)), (Some(false), Some(2)));
    let (code, kind, text) = fail(&mut clean(&[]));
    assert_eq!((code, kind.as_str()), (2, "usage"));
    assert!(text.contains("--yes"), "{text}");
    assert!(case.out.join(".shardfuse/plan").exists());
    succeed(&mut clean(&["--yes"]));
    assert!(!case.out.exists(), "nothing else was in the folder");
    assert!(succeed(&mut clean(&["--yes"])).contains("no unfinished merge"));
}

/// As root: `mkdir /tmp/small && mount -t tmpfs -o size=6m tmpfs /tmp/small`, then
/// `SMALL_DISK=/tmp/small cargo test --test e2e -- --ignored fills_in_the_middle`.
#[test]
#[ignore = "needs a mounted tmpfs of 6 MB, named by SMALL_DISK"]
fn a_disk_that_fills_in_the_middle_keeps_what_is_done() {
    let case = case(256, 2);
    let disk = PathBuf::from(std::env::var("SMALL_DISK").expect("SMALL_DISK names a mounted tmpfs"));
    let (out, other) = (disk.join("out"), disk.join("other"));
    let mut merge = case.merge(&out);
    let mut child = start(merge.args(["--limit-rate", &(case.bytes / 20).to_string()]));
    assert!(wait_for(&mut child, || journaled(&out).len() >= 3));
    // Another program takes what is left, to the last page.
    let mut file = std::fs::File::create(&other).unwrap();
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(5), "{stderr}");
    assert!(stderr.contains("\"no_space\"") && stderr.contains("goes on where it stopped"), "{stderr}");
    let before = journaled(&out).len();
    assert!(before >= 3);
    drop(file);
    std::fs::remove_file(&other).unwrap();
    let summary: serde_json::Value =
        serde_json::from_str(&succeed(case.merge(&out).args(["--format", "json"]))).unwrap();
    assert_eq!(summary["parts_kept"].as_u64(), Some(before as u64));
    assert_same(&out, &case.reference);
}
