//! SIGKILL at points drawn from a merge's progress, and run again: identical files, no journaled part put again, and no
//! loadable half at any point.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use shardfuse_coordinator::tombstone;

use crate::output::{assert_same, files};
use crate::resume::{Case, case, journaled, wait_for};

/// Kills that must have hit a running merge.
const KILLS: usize = 12;
/// The same for the campaign.
const MANY_KILLS: usize = 55;

#[test]
fn killed_and_run_again_gives_the_same_files() {
    campaign(&case(192, 3), KILLS, 5, &[]);
}

#[test]
fn a_single_file_is_not_loadable_before_the_end_either() {
    campaign(&case(128, 1), KILLS / 2, 3, &[]);
}

/// `cargo test --test e2e -- --ignored campaign`: at least 50 kills over a merge stretched to more than 20 s.
#[test]
#[ignore = "takes a minute; .ci/run runs it"]
fn campaign_of_many_kills() {
    campaign(&case(256, 4), MANY_KILLS, 25, &[]);
}

#[test]
fn killed_over_an_old_output_shows_the_old_model_or_none_or_the_new_one() {
    let case = case(128, 3);
    let old = shardfuse_testkit::checkpoint::Model {
        files: 1,
        hidden: 128,
        layers: 4,
        vocab: 512,
        dtype: safetensors::Dtype::BF16,
    };
    old.write(&case.out);
    campaign(&case, KILLS, 4, &["--force"]);
}

fn campaign(case: &Case, kills: usize, seconds: u64, flags: &[&str]) {
    let old = files(&case.out);
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut hits = 0;
    let mut puts: HashMap<(String, u64), u32> = HashMap::new();
    let mut again = 0;
    for round in 0.. {
        assert!(round < kills * 20, "{hits} kills in {round} rounds");
        let before = names(case);
        let log = case.dir.path().join(format!("log{round}"));
        let mut merge = case.slow(seconds);
        merge.args(flags).args(["--log-format", "json"]).env("SHARDFUSE_LOG", "shardfuse_worker=debug");
        let mut child = merge.stdout(Stdio::null()).stderr(File::create(&log).unwrap()).spawn().unwrap();
        let have = case.journaled().len();
        // Mostly some parts further on; every fourth time in the middle of publishing.
        let running = match random.below(4) {
            0 if hits >= kills => wait_for(&mut child, || false),
            0 => wait_for(&mut child, || publishing(&case.out, &old)),
            _ if hits >= kills => wait_for(&mut child, || false),
            _ => {
                let more = 1 + random.below(8) as usize;
                wait_for(&mut child, || case.journaled().len() >= have + more || publishing(&case.out, &old))
            }
        };
        if running {
            child.kill().unwrap();
            hits += 1;
        }
        let status = child.wait().unwrap();
        let text = std::fs::read_to_string(&log).unwrap();
        for put in put_events(&text) {
            again += u32::from(before.contains(&put));
            *puts.entry(put).or_default() += 1;
        }
        loadable_means_whole(case, &old);
        if status.success() {
            assert_same(&case.out, &case.reference);
            if hits >= kills {
                break;
            }
            // On a busy machine a kill may come too late: then once more from the start.
            std::fs::remove_dir_all(&case.out).unwrap();
            restore(&case.out, &old);
            continue;
        }
        assert!(running, "the merge failed by itself:\n{text}");
    }
    assert!(hits >= kills, "only {hits} of {kills} kills hit a running merge");
    assert_eq!(again, 0, "journaled parts were put again");
    assert!(!puts.is_empty(), "no put was counted");
    assert_same(&case.out, &case.reference);
    let total: u32 = puts.values().sum();
    println!("{hits} kills; {} parts, {total} puts, at most {} of one part", puts.len(), puts.values().max().unwrap());
}

fn restore(dir: &Path, files: &std::collections::BTreeMap<String, Vec<u8>>) {
    for (name, bytes) in files {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), bytes).unwrap();
    }
}

/// Parts that are journaled, as (file, part) like the worker names them.
fn names(case: &Case) -> HashSet<(String, u64)> {
    let Ok(plan) = std::fs::read(case.out.join(".shardfuse/plan")) else { return HashSet::new() };
    let plan: serde_json::Value = serde_json::from_slice(&plan).unwrap();
    // Tasks are runs of parts, file by file; a task's number alone does not tell its file, so count as the plan does.
    let plan = &plan["plan"];
    let part_size = plan["spec"]["part_size"].as_u64().unwrap();
    let mut of_task = HashMap::new();
    let mut task = 0;
    for file in plan["output"]["files"].as_array().unwrap() {
        let parts = file["size"].as_u64().unwrap().div_ceil(part_size);
        for _ in 0..parts.div_ceil(4) {
            of_task.insert(task, file["name"].as_str().unwrap().to_owned());
            task += 1;
        }
    }
    journaled(&case.out).into_iter().map(|(task, part)| (of_task[&task].clone(), part)).collect()
}

/// Every put that a run's log names.
fn put_events(log: &str) -> Vec<(String, u64)> {
    let parsed = log.lines().filter_map(|l| serde_json::from_str::<serde_json::Value>(l).ok());
    parsed
        .filter(|v| v["message"] == "put")
        .map(|v| (v["file"].as_str().unwrap().rsplit('/').next().unwrap().to_owned(), v["part"].as_u64().unwrap()))
        .collect()
}

/// Whether publication has begun: something new lies in the output beside the state.
fn publishing(out: &Path, old: &std::collections::BTreeMap<String, Vec<u8>>) -> bool {
    let gone = old.contains_key("config.json") && !out.join("config.json").exists();
    let new = std::fs::read_dir(out).into_iter().flatten().flatten().any(|e| {
        let name = e.file_name().to_string_lossy().into_owned();
        !name.starts_with('.') && !old.contains_key(&name)
    });
    gone || new
}

/// A folder with a config.json is the old model, untouched, or the new one, whole.
fn loadable_means_whole(case: &Case, old: &std::collections::BTreeMap<String, Vec<u8>>) {
    // A tombstone in its place is no JSON: a loader fails on it.
    match std::fs::read(case.out.join("config.json")) {
        Ok(config) if !tombstone::is_tombstone(&config) => {}
        _ => return,
    }
    let now = files(&case.out);
    let untouched = !old.is_empty() && old.iter().all(|(name, bytes)| now.get(name) == Some(bytes));
    if !untouched {
        assert_same(&case.out, &case.reference);
    }
}

/// A small reproducible generator.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

#[test]
fn a_second_start_while_one_runs_does_no_harm() {
    let case = case(128, 2);
    let mut first = case.slow(6).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_for(&mut first, || case.journaled().len() >= 2));
    let second: Command = case.merge(&case.out);
    let mut second = second;
    let ended = second.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    let first = first.wait().unwrap();
    assert!(ended.success() || first.success(), "one of the two must finish: {ended} {first}");
    assert_same(&case.out, &case.reference);
}
