//! Errors by their kind, and the limits that end a merge.

use super::*;
use crate::schedule::{AbortReason, Outcome};

/// (worker, strikes, message) of every worker that was quarantined.
fn quarantined(actions: &[Action]) -> Vec<(u64, u32, &str)> {
    let named = |action| match action {
        &Action::Quarantine { worker, strikes, ref message } => Some((worker.0, strikes, message.as_str())),
        _ => None,
    };
    actions.iter().filter_map(named).collect()
}

/// Lets the backoff of a task pass while the workers live on.
fn wait_for_backoff(bench: &mut Bench, workers: &[u64]) -> Vec<Action> {
    bench.pass(LEASE);
    let mut actions: Vec<Action> = workers.iter().flat_map(|&worker| bench.beat(worker, &[])).collect();
    actions.extend(bench.tick());
    actions
}

#[test]
fn a_permanent_error_ends_the_merge_at_once_with_its_message() {
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 1);
    bench.join(2, 1);
    let actions = bench.fail(2, 1, 1, ErrorKind::Permanent, "the base has changed");
    let message = "the base has changed".to_owned();
    let reason = AbortReason::Permanent { task: TaskId(1), worker: WorkerId(2), message };
    assert_eq!(reason.to_string(), "task 1 failed on worker 2: the base has changed");
    let revoke = Action::Revoke { worker: WorkerId(1), task: TaskId(0), epoch: Epoch(1) };
    assert_eq!(actions, [revoke, Action::Abort { reason: reason.clone() }]);
    assert_eq!(bench.schedule.outcome(), Some(&Outcome::Aborted(reason)));
}

#[test]
fn a_permanent_error_of_an_ended_attempt_ends_nothing() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.leave(1);
    assert!(bench.fail(1, 0, 1, ErrorKind::Permanent, "late").is_empty());
    assert_eq!(bench.schedule.counters().stale, 1);
}

#[test]
fn a_transient_error_is_tried_again_after_a_rest_that_doubles() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    assert!(bench.fail(1, 0, 1, ErrorKind::Transient, "reset").is_empty());
    assert!(bench.tick().is_empty());
    bench.pass(SECOND);
    assert_eq!(assigned(&bench.tick()), [(1, 0, 2, vec![0])]);
    bench.fail(1, 0, 2, ErrorKind::Transient, "reset");
    bench.pass(SECOND);
    assert!(bench.tick().is_empty());
    bench.pass(SECOND);
    assert_eq!(assigned(&bench.tick()), [(1, 0, 3, vec![0])]);
    assert_eq!(bench.schedule.counters().retries, 2);
}

#[test]
fn transient_errors_end_the_merge_at_the_limit_and_name_the_last() {
    let mut bench = Bench::limited(tasks(1, 1), Limits { max_attempts: 2, ..Limits::default() });
    bench.join(1, 1);
    bench.fail(1, 0, 1, ErrorKind::Transient, "first");
    wait_for_backoff(&mut bench, &[1]);
    let actions = bench.fail(1, 0, 2, ErrorKind::Transient, "second");
    let reason = AbortReason::Exhausted { task: TaskId(0), failures: 2, attempts: 2, message: "second".to_owned() };
    assert_eq!(actions, [Action::Abort { reason }]);
}

#[test]
fn lost_leases_count_as_attempts() {
    let mut bench = Bench::limited(tasks(1, 1), Limits { max_attempts: 2, ..Limits::default() });
    for worker in 1..=2 {
        bench.join(worker, 1);
        bench.pass(LEASE);
        bench.tick();
    }
    let Some(Outcome::Aborted(AbortReason::Exhausted { failures: 2, message, .. })) = bench.schedule.outcome() else {
        panic!("{:?}", bench.schedule.outcome());
    };
    assert_eq!(message, "worker 2 was lost");
}

#[test]
fn stale_attempts_and_workers_that_leave_count_only_for_the_cap() {
    let limits = Limits { max_attempts: 1, attempt_cap: 4, ..Limits::default() };
    let mut bench = Bench::limited(tasks(1, 1), limits);
    bench.join(1, 1);
    bench.fail(1, 0, 1, ErrorKind::Stale, "no such upload");
    wait_for_backoff(&mut bench, &[1]);
    bench.leave(1);
    bench.join(2, 1);
    bench.fail(2, 0, 3, ErrorKind::Stale, "no such upload");
    assert_eq!(assigned(&wait_for_backoff(&mut bench, &[2])), [(2, 0, 4, vec![0])]);
    bench.leave(2);
    let Some(Outcome::Aborted(reason)) = bench.schedule.outcome() else { panic!("the cap was reached") };
    let text = "task 0 is not finished after 4 attempts, of which 0 count as failed; the last: worker 2 left";
    assert_eq!(reason.to_string(), text);
}

#[test]
fn a_workers_own_errors_set_it_aside_and_leave_the_task_alone() {
    let limits = Limits { max_attempts: 1, worker_strikes: 2, ..Limits::default() };
    let mut bench = Bench::limited(tasks(3, 1), limits);
    bench.join(1, 1);
    let actions = bench.fail(1, 0, 1, ErrorKind::WorkerLocal, "out of memory");
    assert_eq!(given(&actions), [(1, 1)]);
    let actions = bench.fail(1, 1, 1, ErrorKind::WorkerLocal, "still out of memory");
    assert_eq!(quarantined(&actions), [(1, 2, "still out of memory")]);
    assert!(assigned(&actions).is_empty());
    assert_eq!(bench.schedule.progress().workers, 0);
    assert!(assigned(&bench.join(1, 1)).is_empty(), "joining again clears nothing");
    assert_eq!(given(&bench.join(2, 1)), [(2, 2)]);
}

#[test]
fn a_quarantined_worker_may_finish_what_it_runs() {
    let limits = Limits { worker_strikes: 1, ..Limits::default() };
    let mut bench = Bench::limited(tasks(2, 1), limits);
    bench.join(1, 2);
    bench.fail(1, 0, 1, ErrorKind::WorkerLocal, "device lost");
    assert_eq!(acked(&bench.finish(1, 1, 1, 0)), [(1, 1, 1, 0)]);
}

#[test]
fn a_finished_task_clears_its_workers_strikes() {
    let limits = Limits { worker_strikes: 2, ..Limits::default() };
    let mut bench = Bench::limited(tasks(9, 1), limits);
    bench.join(1, 1);
    for task in [0, 2, 4] {
        assert!(quarantined(&bench.fail(1, task, 1, ErrorKind::WorkerLocal, "out of memory")).is_empty());
        bench.finish(1, task + 1, 1, 0);
    }
}

#[test]
fn with_every_worker_quarantined_the_merge_waits_for_another() {
    let limits = Limits { worker_strikes: 1, ..Limits::default() };
    let mut bench = Bench::limited(tasks(1, 1), limits);
    bench.join(1, 1);
    bench.fail(1, 0, 1, ErrorKind::WorkerLocal, "disk full");
    assert!(assigned(&wait_for_backoff(&mut bench, &[1])).is_empty());
    assert_eq!(bench.schedule.outcome(), None);
    assert_eq!(assigned(&bench.join(2, 1)), [(2, 0, 2, vec![0])]);
}

#[test]
fn a_failed_attempt_ends_nothing_while_another_at_the_task_lives() {
    let limits = Limits { max_attempts: 1, ..Limits::default() };
    let mut bench = Bench::limited(vec![task(1), TaskSpec { affinity: 1, ..task(1) }], limits);
    bench.join(1, 1);
    bench.join(2, 1);
    bench.finish(2, 1, 1, 0);
    bench.pass(SECOND);
    assert_eq!(assigned(&bench.tick()), [(2, 0, 2, vec![0])]);
    assert!(bench.fail(1, 0, 1, ErrorKind::Transient, "reset").is_empty());
    assert!(published(&bench.finish(2, 0, 2, 0)));
}

#[test]
fn the_error_that_used_up_the_attempts_is_named_even_if_a_worker_that_leaves_ends_the_last() {
    let limits = Limits { max_attempts: 1, ..Limits::default() };
    let mut bench = Bench::limited(vec![task(1), TaskSpec { affinity: 1, ..task(1) }], limits);
    bench.join(1, 1);
    bench.join(2, 1);
    bench.finish(2, 1, 1, 0);
    bench.pass(SECOND);
    assert_eq!(assigned(&bench.tick()), [(2, 0, 2, vec![0])]);
    bench.fail(1, 0, 1, ErrorKind::Transient, "reset");
    bench.leave(2);
    let Some(Outcome::Aborted(AbortReason::Exhausted { message, .. })) = bench.schedule.outcome() else {
        panic!("{:?}", bench.schedule.outcome());
    };
    assert_eq!(message, "reset");
}

#[test]
fn retries_are_counted_by_what_ended_the_attempt_before() {
    let retried =
        |bench: &Bench| -> Vec<_> { bench.schedule.counters().retries_by.iter().filter(|(_, n)| *n > 0).collect() };
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.fail(1, 0, 1, ErrorKind::Transient, "reset");
    assert_eq!(retried(&bench), [], "it is in backoff, and is not assigned again yet");
    wait_for_backoff(&mut bench, &[1]);
    assert_eq!(retried(&bench), [("transient", 1)]);
    bench.fail(1, 0, 2, ErrorKind::WorkerLocal, "no memory");
    wait_for_backoff(&mut bench, &[1]);
    bench.leave(1);
    bench.join(2, 1);
    bench.pass(LEASE);
    bench.join(3, 1);
    bench.tick();
    let expected = [("transient", 1), ("worker_local", 1), ("worker_lost", 1), ("worker_left", 1)];
    assert_eq!(retried(&bench), expected);
    assert_eq!(bench.schedule.counters().retries, 4);
}
