//! Who gets work, and who does not.

use super::*;

#[test]
fn a_worker_gets_as_many_tasks_as_it_has_slots() {
    let mut bench = Bench::new(tasks(5, 1));
    let actions = bench.join(1, 2);
    assert_eq!(assigned(&actions), [(1, 0, 1, vec![0]), (1, 1, 1, vec![0])]);
    assert!(assigned(&bench.tick()).is_empty());
}

#[test]
fn a_worker_without_slots_gets_nothing() {
    let mut bench = Bench::new(tasks(1, 1));
    assert!(bench.join(1, 0).is_empty());
    assert_eq!(bench.schedule.progress().workers, 0);
}

#[test]
fn a_slot_is_filled_again_once_the_last_piece_is_reported() {
    let mut bench = Bench::new(tasks(2, 2));
    bench.join(1, 1);
    assert!(assigned(&bench.report(1, 0, 1, 0)).is_empty());
    assert_eq!(given(&bench.report(1, 0, 1, 1)), [(1, 1)]);
}

#[test]
fn tasks_are_spread_over_the_least_loaded_workers() {
    let mut bench = Bench::new(vec![task(1), blocked(1), blocked(2), blocked(3), blocked(4)]);
    bench.join(1, 1);
    bench.join(2, 2);
    bench.join(3, 2);
    assert_eq!(given(&bench.finish(1, 0, 1, 0)), [(1, 1), (2, 2), (3, 3), (2, 4)]);
}

/// A task after task 0.
fn blocked(affinity: u64) -> TaskSpec {
    TaskSpec { after: vec![TaskId(0)], affinity, ..task(1) }
}

#[test]
fn a_task_starts_only_when_everything_it_comes_after_is_journaled() {
    let last = TaskSpec { after: vec![TaskId(0), TaskId(1)], ..task(1) };
    let mut bench = Bench::new(vec![task(1), task(1), last]);
    bench.join(1, 3);
    bench.finish(1, 0, 1, 0);
    assert!(assigned(&bench.report(1, 1, 1, 0)).is_empty());
    assert_eq!(given(&bench.persist(1, 0)), [(1, 2)]);
}

#[test]
fn a_draining_worker_finishes_and_gets_nothing_new() {
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 1);
    bench.drain(1);
    let actions = bench.finish(1, 0, 1, 0);
    assert_eq!(acked(&actions), [(1, 0, 1, 0)]);
    assert!(assigned(&actions).is_empty());
    assert_eq!(bench.schedule.progress().workers, 0);
}

#[test]
fn a_draining_worker_that_joins_again_is_ready() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 0);
    bench.drain(1);
    assert_eq!(given(&bench.join(1, 1)), [(1, 0)]);
}

#[test]
fn a_worker_that_leaves_gives_its_tasks_back_with_only_the_missing_pieces() {
    let mut bench = Bench::new(tasks(1, 3));
    bench.join(1, 1);
    bench.report(1, 0, 1, 1);
    assert!(revoked(&bench.leave(1)).is_empty());
    assert_eq!(assigned(&bench.join(2, 1)), [(2, 0, 2, vec![0, 2])]);
    assert_eq!(bench.schedule.counters().retries, 1);
}

#[test]
fn a_reconnect_keeps_the_attempts_and_takes_the_new_number_of_slots() {
    let mut bench = Bench::new(tasks(3, 1));
    bench.join(1, 1);
    assert_eq!(given(&bench.join(1, 2)), [(1, 1)]);
    assert_eq!(to_persist(&bench.report(1, 0, 1, 0)), [(0, 0, 1)]);
}

#[test]
fn fewer_slots_than_attempts_end_none_of_them() {
    let mut bench = Bench::new(tasks(3, 1));
    bench.join(1, 2);
    assert!(bench.join(1, 1).is_empty());
    assert!(assigned(&bench.report(1, 0, 1, 0)).is_empty());
    assert_eq!(given(&bench.report(1, 1, 1, 0)), [(1, 2)]);
}

#[test]
fn strangers_are_counted_and_nothing_else() {
    let mut bench = Bench::new(tasks(1, 1));
    assert!(bench.beat(9, &[]).is_empty());
    assert!(bench.drain(9).is_empty());
    assert!(bench.leave(9).is_empty());
    assert_eq!(bench.schedule.counters().ignored, 3);
    assert_eq!(revoked(&bench.beat(9, &[(0, 1), (5, 5)])), [(9, 0, 1), (9, 5, 5)]);
}
