//! A merge over which the coordinator is killed again and again.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use shardfuse_fleetkit::{Fleet, TIMEOUT, failed, walk};

/// A merge as the coordinator shows it.
fn get(fleet: &Fleet, id: &str) -> Value {
    let got = fleet.client("get", "submitter", &[id, "--format", "json"]);
    assert!(got.status.success(), "{}", String::from_utf8_lossy(&got.stderr));
    serde_json::from_slice(&got.stdout).unwrap()
}

/// The record of a merge in the coordinator's state.
fn record(fleet: &Fleet, id: &str) -> Value {
    serde_json::from_slice(&std::fs::read(fleet.path(&format!("state/merges/{id}"))).unwrap()).unwrap()
}

/// Waits until the merge is in the middle of being read.
fn wait_for_planning(fleet: &Fleet, id: &str) {
    let deadline = Instant::now() + TIMEOUT;
    while get(fleet, id)["state"] != "planning" || record(fleet, id)["planning"].is_null() {
        assert!(Instant::now() < deadline, "in vain: {}", get(fleet, id));
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_merge_that_kills_its_coordinator_twice_is_held_and_the_others_are_served() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/base", silent.local_addr().unwrap());
    let mut fleet = Fleet::new(crate::BINARY);
    let allow = ["models", "outputs", &base];
    let good = |fleet: &Fleet, name: &str| {
        let (base, lora) = (fleet.url("models/base"), fleet.url("models/lora"));
        fleet.submit(&base, &lora, &fleet.url(&format!("outputs/{name}")), &["--wait", "--quiet"])
    };
    fleet.coordinator(&allow);
    let submitted = fleet.submit(&base, &fleet.url("models/lora"), &fleet.url("outputs/bad"), &[]);
    assert!(submitted.status.success(), "{}", String::from_utf8_lossy(&submitted.stderr));
    let id = String::from_utf8(submitted.stdout).unwrap().trim().to_owned();
    for _ in 0..2 {
        wait_for_planning(&fleet, &id);
        fleet.kill("coordinator");
        fleet.coordinator(&allow);
    }

    let held = get(&fleet, &id);
    assert_eq!((held["state"].as_str(), held["failure"]["kind"].as_str()), (Some("held"), Some("held")), "{held}");
    // In each of the three ways to look, with what to do.
    let text = fleet.client("get", "submitter", &[&id]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("killed 2 times in a row") && text.contains(&format!("shardfuse retry {id}")), "{text}");
    let listed = fleet.client("list", "submitter", &[]);
    let (table, notes) = (String::from_utf8(listed.stdout).unwrap(), String::from_utf8(listed.stderr).unwrap());
    assert!(table.contains("held") && notes.contains("killed 2 times in a row"), "{table}{notes}");
    let (code, kind, message) = failed(&fleet.client("watch", "submitter", &[&id]));
    assert_eq!((code, kind.as_str()), (1, "held"), "{message}");

    fleet.worker("worker", &allow);
    let done = good(&fleet, "good");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));

    let retried = fleet.client("retry", "submitter", &[&id]);
    assert!(retried.status.success(), "{}", String::from_utf8_lossy(&retried.stderr));
    // A coordinator that is told to stop was not killed, however often that happens.
    for _ in 0..3 {
        wait_for_planning(&fleet, &id);
        fleet.terminate("coordinator");
        assert!(record(&fleet, &id)["planning"].is_null());
        fleet.coordinator(&allow);
    }
    wait_for_planning(&fleet, &id);
    // And a cancel is answered in the middle of it.
    let cancelled = fleet.client("cancel", "submitter", &[&id]);
    assert!(cancelled.status.success(), "{}", String::from_utf8_lossy(&cancelled.stderr));
    let deadline = Instant::now() + TIMEOUT;
    while get(&fleet, &id)["state"] != "cancelled" {
        assert!(Instant::now() < deadline, "in vain: {}", get(&fleet, &id));
    }
    assert!(walk(&fleet.path("outputs/bad")).is_empty());
    fleet.assert_well();
}

#[test]
fn a_record_that_is_none_is_set_aside_and_the_coordinator_starts() {
    let mut fleet = Fleet::new(crate::BINARY);
    let id = "0123456789abcdef";
    std::fs::create_dir_all(fleet.path("state/merges")).unwrap();
    std::fs::write(fleet.path(&format!("state/merges/{id}")), "no record").unwrap();
    fleet.coordinator(&["models", "outputs"]);
    assert!(fleet.client("list", "submitter", &[]).status.success());
    assert_eq!(std::fs::read_to_string(fleet.path(&format!("state/unreadable/{id}"))).unwrap(), "no record");
    let log = std::fs::read_to_string(fleet.path("coordinator.stderr")).unwrap();
    assert!(log.contains(id) && log.contains("unreadable"), "{log}");
}
