//! Leases of attempts and of workers, on a clock that jumps.

use super::*;

fn lost(actions: &[Action], worker: u64) -> bool {
    actions.contains(&Action::WorkerLost { worker: WorkerId(worker) })
}

#[test]
fn a_heartbeat_renews_the_attempts_it_lists_and_only_those() {
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 2);
    bench.pass(LEASE / 2);
    bench.beat(1, &[(0, 1)]);
    bench.pass(LEASE / 2);
    let actions = bench.tick();
    assert_eq!(revoked(&actions), [(1, 1, 1)]);
    assert_eq!(assigned(&actions), [(1, 1, 2, vec![0])]);
    assert_eq!(bench.schedule.counters().expired, 1);
}

#[test]
fn a_finished_piece_renews_its_attempt() {
    let mut bench = Bench::new(tasks(1, 2));
    bench.join(1, 1);
    bench.pass(LEASE / 2);
    bench.report(1, 0, 1, 0);
    bench.pass(LEASE / 2);
    assert!(bench.tick().is_empty());
}

#[test]
fn a_lease_ends_at_its_deadline_and_not_before() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.pass(LEASE - Duration::from_nanos(1));
    assert!(bench.tick().is_empty());
    bench.pass(Duration::from_nanos(1));
    assert!(lost(&bench.tick(), 1));
}

#[test]
fn a_silent_worker_is_lost_with_all_it_runs() {
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 2);
    bench.pass(LEASE);
    bench.join(2, 1);
    let actions = bench.tick();
    assert!(lost(&actions, 1));
    assert_eq!(revoked(&actions), [(1, 0, 1), (1, 1, 1)]);
    assert_eq!(assigned(&actions), [(2, 0, 2, vec![0])]);
}

#[test]
fn a_heartbeat_that_waited_while_the_clock_jumped_still_counts() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.pass(LEASE * 10);
    assert!(bench.beat(1, &[(0, 1)]).is_empty());
    assert!(bench.tick().is_empty());
}

#[test]
fn a_lost_worker_comes_back_with_its_next_heartbeat() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.pass(LEASE);
    bench.tick();
    let actions = bench.beat(1, &[(0, 1)]);
    assert_eq!(revoked(&actions), [(1, 0, 1)]);
    assert_eq!(assigned(&actions), [(1, 0, 2, vec![0])]);
}

#[test]
fn a_lost_worker_may_join_again_under_its_number() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.pass(LEASE);
    bench.tick();
    assert_eq!(assigned(&bench.join(1, 1)), [(1, 0, 2, vec![0])]);
}

#[test]
fn a_lost_worker_that_was_draining_comes_back_draining() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.drain(1);
    bench.pass(LEASE);
    bench.tick();
    assert!(bench.beat(1, &[]).is_empty());
    assert_eq!(given(&bench.join(1, 1)), [(1, 0)]);
}

#[test]
fn a_report_of_a_lost_worker_does_not_bring_it_back() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.pass(LEASE);
    bench.tick();
    let actions = bench.report(1, 0, 1, 0);
    assert_eq!(revoked(&actions), [(1, 0, 1)]);
    assert!(assigned(&actions).is_empty());
}

#[test]
fn a_heartbeat_that_lists_an_ended_attempt_draws_a_revocation() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.leave(1);
    bench.join(1, 1);
    assert_eq!(revoked(&bench.beat(1, &[(0, 1), (0, 2)])), [(1, 0, 1)]);
}

#[test]
fn time_that_runs_backwards_stands_still() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.pass(LEASE);
    bench.join(1, 1);
    bench.now = Duration::ZERO;
    assert!(bench.beat(1, &[(0, 1)]).is_empty());
    bench.now = LEASE * 2 - SECOND;
    assert!(bench.tick().is_empty());
}

#[test]
fn the_end_of_time_is_no_overflow() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.now = Duration::MAX;
    bench.join(1, 1);
    bench.fail(1, 0, 1, ErrorKind::Transient, "reset");
    bench.tick();
}
