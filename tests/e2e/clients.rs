//! The client commands against a coordinator and workers on this machine.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::tool::{command, succeed};
use shardfuse_fleetkit::{Fleet, TIMEOUT, failed};

const ALLOW: [&str; 2] = ["models", "outputs"];

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

fn submit(fleet: &Fleet, output: &str, more: &[&str]) -> Output {
    fleet.submit(&fleet.url("models/base"), &fleet.url("models/lora"), &fleet.url(output), more)
}

/// Submits and returns the id.
fn submitted(fleet: &Fleet, output: &str) -> String {
    let answer = submit(fleet, output, &[]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    text(&answer.stdout).trim().to_owned()
}

fn get(fleet: &Fleet, id: &str) -> Value {
    let answer = fleet.client("get", "submitter", &[id, "--format", "json"]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    serde_json::from_slice(&answer.stdout).unwrap()
}

/// A client command that goes on in the background.
fn background(fleet: &Fleet, name: &str, args: &[&str]) -> Child {
    let mut command: Command = fleet.command(name, "submitter", args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn wait(mut child: Child) -> Output {
    let deadline = Instant::now() + TIMEOUT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("it does not end: {}", text(&child.wait_with_output().unwrap().stderr));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    child.wait_with_output().unwrap()
}

/// Waits until a watch has told what it watches.
fn until_told(watching: &mut Child) {
    let mut first = [0; 6];
    std::io::Read::read_exact(watching.stderr.as_mut().unwrap(), &mut first).unwrap();
    assert_eq!(&first, b"merge ");
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The same merge on one machine.
fn alone(fleet: &Fleet) -> std::path::PathBuf {
    let output = fleet.path("alone");
    let (base, lora) = (fleet.path("models/base"), fleet.path("models/lora"));
    let mut merge = command();
    merge.arg("merge").arg("--base").arg(base).arg("--lora").arg(lora).arg("--output").arg(&output);
    succeed(merge.args(["--part-size", "4KiB", "--quiet"]));
    output
}

#[test]
fn a_watch_outlives_its_coordinator() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&ALLOW);
    let id = submitted(&fleet, "outputs/one");
    assert_eq!(submitted(&fleet, "outputs/one"), id, "the same submission is the same merge");
    let mut watching = background(&fleet, "watch", &[&id]);
    until_told(&mut watching);
    // Nobody works yet, so it is watched while the coordinator goes and another comes.
    fleet.kill("coordinator");
    fleet.coordinator(&ALLOW);
    fleet.worker("worker", &ALLOW);
    let watched = wait(watching);
    assert_eq!(watched.status.code(), Some(0), "{}", text(&watched.stderr));
    assert!(text(&watched.stderr).contains("the coordinator is away"), "it did not go: {}", text(&watched.stderr));
    assert!(text(&watched.stdout).contains("merged 1 adapter into"), "{}", text(&watched.stdout));
    let merge = get(&fleet, &id);
    assert_eq!((merge["state"].as_str(), merge["id"].as_str()), (Some("done"), Some(id.as_str())), "{merge}");
    assert_eq!(merge["bytes_done"], merge["bytes_total"]);
    crate::output::assert_same(&alone(&fleet), &fleet.path("outputs/one"));
    let list = fleet.client("list", "submitter", &[]);
    let list = text(&list.stdout);
    assert!(list.contains(&id) && list.contains("done") && list.contains("100 %"), "{list}");
}

#[test]
fn merge_with_a_coordinator_is_merge() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&ALLOW);
    fleet.worker("worker", &ALLOW);
    let (base, lora, output) = (fleet.path("models/base"), fleet.path("models/lora"), fleet.path("outputs/two"));
    let merge = |more: &[&str]| {
        let mut args = vec!["--base", base.to_str().unwrap(), "--lora", lora.to_str().unwrap()];
        args.extend(["--output", output.to_str().unwrap(), "--part-size", "4KiB"]);
        args.extend(more);
        wait(background(&fleet, "merge", &args))
    };
    let done = merge(&[]);
    assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
    assert!(text(&done.stdout).contains("merged 1 adapter into"), "{}", text(&done.stdout));
    crate::output::assert_same(&alone(&fleet), &output);
    let again = merge(&[]);
    assert!(text(&again.stdout).contains("is this very merge already, finished"), "{}", text(&again.stdout));
    // What it cannot do there is said, not passed over.
    for flag in [["--memory", "1GiB"], ["--threads", "2"], ["--limit-rate", "1MiB"]] {
        let (code, kind, message) = failed(&merge(&flag));
        assert_eq!((code, kind.as_str()), (2, "usage"), "{message}");
        assert!(message.contains(flag[0]), "{message}");
    }
}

#[test]
fn a_merge_that_fails_fails_the_command_that_waits_for_it() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&ALLOW);
    let missing = fleet.submit(
        &fleet.url("models/nowhere"),
        &fleet.url("models/lora"),
        &fleet.url("outputs/three"),
        &["--wait", "--quiet"],
    );
    let (code, kind, message) = failed(&missing);
    assert_eq!((code, kind.as_str()), (3, "missing_file"), "{message}");
    assert!(message.contains("models/nowhere"), "{message}");
    let unknown = fleet.client("get", "submitter", &["0123456789abcdef"]);
    let (code, _, message) = failed(&unknown);
    assert_eq!(code, 2, "{message}");
    assert!(message.contains("0123456789abcdef"), "{message}");
}

#[test]
fn a_cancelled_merge_ends_its_watch_with_4_and_goes_on_when_submitted_again() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&ALLOW);
    let id = submitted(&fleet, "outputs/four");
    let watching = background(&fleet, "watch", &[&id, "--quiet"]);
    let cancelled = fleet.client("cancel", "submitter", &[&id, "--format", "json"]);
    assert!(cancelled.status.success(), "{}", text(&cancelled.stderr));
    let (code, kind, message) = failed(&wait(watching));
    assert_eq!((code, kind.as_str()), (4, "interrupted"), "{message}");
    until("it is cancelled", || get(&fleet, &id)["state"] == "cancelled");
    fleet.worker("worker", &ALLOW);
    let again = submit(&fleet, "outputs/four", &["--wait", "--quiet"]);
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(get(&fleet, &id)["state"], "done");
    // A merge that has ended is left as it is.
    let late = fleet.client("cancel", "submitter", &[&id]);
    assert!(text(&late.stdout).contains("had ended: done"), "{}", text(&late.stdout));
    let discarded = submitted(&fleet, "outputs/five");
    assert!(fleet.client("cancel", "submitter", &[&discarded, "--discard"]).status.success());
}

#[cfg(target_os = "linux")]
#[test]
fn who_stops_watching_stops_nothing() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&ALLOW);
    let id = submitted(&fleet, "outputs/six");
    let mut watching = background(&fleet, "watch", &[&id]);
    until_told(&mut watching);
    let status = format!("/proc/{}/status", watching.id());
    until("it listens to SIGINT", || {
        let status = std::fs::read_to_string(&status).unwrap();
        let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() & (1 << 1) != 0
    });
    let killed = Command::new("kill").args(["-INT", &watching.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let ended = wait(watching);
    assert_eq!(ended.status.code(), Some(4), "{}", text(&ended.stderr));
    assert!(text(&ended.stderr).contains("the merge goes on"), "{}", text(&ended.stderr));
    assert_ne!(get(&fleet, &id)["state"], "cancelled");
}

#[test]
fn a_merge_that_was_done_is_looked_at_again_where_its_inputs_may_have_changed() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&ALLOW);
    fleet.worker("worker", &ALLOW);
    let merge = |more: &[&str]| {
        let done = submit(&fleet, "outputs/seven", &[&["--wait", "--quiet"], more].concat());
        assert_eq!(done.status.code(), Some(0), "{}", text(&done.stderr));
        crate::output::files(&fleet.path("outputs/seven"))
    };
    let first = merge(&[]);
    assert!(merge(&["--force"]) == first, "nothing changed, so nothing is made");
    // Another adapter under the same name, as training leaves it.
    shardfuse_testkit::checkpoint::lora(
        &fleet.path("models/lora"),
        &shardfuse_testkit::checkpoint::Model::SMALL,
        4,
        "another",
    );
    assert!(merge(&[]) == first, "done is done");
    let second = merge(&["--force"]);
    assert!(second != first, "the new adapter was not merged");
    crate::output::assert_same(&alone(&fleet), &fleet.path("outputs/seven"));
}

#[test]
fn parts_are_computed_again_on_another_worker_before_they_are_published() {
    let mut fleet = Fleet::new(crate::BINARY);
    fleet.coordinator(&ALLOW);
    for name in ["worker-a", "worker-b"] {
        fleet.worker(name, &ALLOW);
    }
    let bad = submit(&fleet, "outputs/never", &["--verify-parts", "1.5"]);
    assert_eq!(bad.status.code(), Some(2), "{}", text(&bad.stderr));
    let answer = submit(&fleet, "outputs/verified", &["--verify-parts", "1", "--wait"]);
    assert!(answer.status.success(), "{}", text(&answer.stderr));
    let manifest = std::fs::read(fleet.path("outputs/verified/shardfuse.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let notes = manifest["notes"].to_string();
    assert!(notes.contains("parts were computed again on another worker"), "{notes}");
    let alone = alone(&fleet);
    for file in std::fs::read_dir(&alone).unwrap() {
        let name = file.unwrap().file_name();
        if name != "shardfuse.json" {
            let (a, b) = (alone.join(&name), fleet.path("outputs/verified").join(&name));
            assert_eq!(std::fs::read(a).unwrap(), std::fs::read(b).unwrap(), "{name:?}");
        }
    }
}
