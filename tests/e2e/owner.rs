//! Two merges into one output: the second one is refused while the first is alive, and goes on by itself once it is not.

use std::process::Stdio;

use crate::output::assert_same;
use crate::resume::{Case, case, wait_for};
use crate::tool::{fail, run, succeed};

/// A merge that has parts and takes a minute.
fn alive(case: &Case) -> std::process::Child {
    let mut first = case.slow(60).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    assert!(wait_for(&mut first, || !case.journaled().is_empty()));
    first
}

#[test]
fn a_second_merge_is_refused_while_the_first_is_alive_and_goes_on_once_it_was_killed() {
    let case = case(128, 2);
    let mut first = alive(&case);
    let (code, kind, text) = fail(&mut case.merge(&case.out));
    assert_eq!((code, kind.as_str()), (5, "output_busy"));
    assert!(text.contains(case.out.to_str().unwrap()) && text.contains("--take-over"), "{text}");
    assert!(first.try_wait().unwrap().is_none(), "the first one is not disturbed");
    first.kill().unwrap();
    first.wait().unwrap();
    succeed(&mut case.merge(&case.out));
    assert_same(&case.out, &case.reference);
}

#[test]
fn take_over_begins_at_once_and_the_first_one_ends_with_output_busy() {
    let case = case(128, 2);
    let mut slow = case.slow(60);
    let first = slow.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = first;
    assert!(wait_for(&mut first, || !case.journaled().is_empty()));
    succeed(case.merge(&case.out).arg("--take-over"));
    let ended = first.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(5), "{text}");
    assert!(text.contains("output_busy"), "{text}");
    assert_same(&case.out, &case.reference);
}

#[test]
fn clean_is_refused_while_a_merge_is_alive_and_goes_on_at_once_when_it_was_killed() {
    let case = case(128, 2);
    let mut first = alive(&case);
    let clean = || {
        let mut clean = crate::tool::command();
        clean.args(["clean", "--yes", "--error-format", "json"]).arg(&case.out);
        clean
    };
    let (code, kind, text) = fail(&mut clean());
    assert_eq!((code, kind.as_str()), (5, "output_busy"), "{text}");
    assert!(text.contains("on this machine"), "{text}");
    first.kill().unwrap();
    first.wait().unwrap();
    succeed(&mut clean());
    assert!(!case.out.exists());
}

#[test]
fn a_refused_merge_leaves_no_folder_and_a_finished_one_no_lock() {
    let case = case(128, 1);
    let nowhere = case.dir.path().join("new/out");
    assert!(!run(case.merge(&nowhere).args(["--survival", "0.5"])).status.success());
    assert!(!nowhere.exists());
    succeed(&mut case.merge(&case.out));
    assert!(!case.out.join(".shardfuse").exists());
    assert_same(&case.out, &case.reference);
}

#[test]
fn restart_of_a_finished_output_needs_force() {
    let case = case(128, 1);
    succeed(&mut case.merge(&case.out));
    let (code, kind, text) = fail(case.merge(&case.out).arg("--restart"));
    assert_eq!((code, kind.as_str()), (3, "output_exists"));
    assert!(text.contains("a finished merge") && text.contains("--restart --force"), "{text}");
    succeed(case.merge(&case.out).args(["--restart", "--force"]));
    assert_same(&case.out, &case.reference);
}
