//! The end of a merge, and what comes after it.

use super::*;
use crate::schedule::{AbortReason, Outcome};

#[test]
fn the_merge_is_published_once_when_everything_is_journaled() {
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 2);
    bench.finish(1, 0, 1, 0);
    assert!(!published(&bench.report(1, 1, 1, 0)));
    let actions = bench.persist(1, 0);
    let ack = Action::Ack { worker: WorkerId(1), task: TaskId(1), epoch: Epoch(1), piece: Piece(0) };
    assert_eq!(actions, [ack, Action::TaskDone { task: TaskId(1) }, Action::Publish]);
    assert_eq!(bench.schedule.outcome(), Some(&Outcome::Published));
    assert!(bench.tick().is_empty());
}

#[test]
fn a_merge_without_tasks_is_published_at_once() {
    assert_eq!(Bench::new(Vec::new()).tick(), [Action::Publish]);
}

#[test]
fn cancelling_revokes_everything_and_ends_the_merge() {
    let mut bench = Bench::new(tasks(3, 1));
    bench.join(1, 2);
    let actions = bench.step(Event::Cancel);
    assert_eq!(revoked(&actions), [(1, 0, 1), (1, 1, 1)]);
    assert_eq!(actions.last(), Some(&Action::Abort { reason: AbortReason::Cancelled }));
    assert_eq!(bench.schedule.progress().running, 0);
}

#[test]
fn after_the_end_only_revocations_are_returned() {
    let mut bench = Bench::new(tasks(2, 2));
    bench.join(1, 1);
    bench.report(1, 0, 1, 0);
    bench.step(Event::Cancel);
    assert!(bench.join(2, 1).is_empty());
    assert!(bench.persist(0, 0).is_empty());
    assert_eq!(revoked(&bench.beat(1, &[(0, 1)])), [(1, 0, 1)]);
    assert_eq!(revoked(&bench.report(1, 0, 1, 1)), [(1, 0, 1)]);
    assert!(bench.fail(1, 0, 1, ErrorKind::Permanent, "late").is_empty());
    assert!(bench.drain(1).is_empty());
    assert!(bench.leave(1).is_empty());
    assert!(bench.step(Event::Cancel).is_empty());
    bench.pass(LEASE * 2);
    assert!(bench.tick().is_empty());
    assert_eq!(bench.schedule.counters().accepted, 1);
}

#[test]
fn of_several_leases_that_end_together_the_first_to_exhaust_its_task_ends_the_merge_once() {
    let mut bench = Bench::limited(tasks(3, 1), Limits { max_attempts: 1, ..Limits::default() });
    bench.join(1, 3);
    bench.pass(LEASE);
    let actions = bench.tick();
    assert_eq!(revoked(&actions), [(1, 0, 1), (1, 1, 1), (1, 2, 1)]);
    assert_eq!(actions.iter().filter(|action| matches!(action, Action::Abort { .. })).count(), 1);
}
