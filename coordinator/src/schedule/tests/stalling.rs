//! Attempts whose worker lives and does nothing.

use super::*;

/// Seconds after which an attempt that stands still is given to somebody else.
const STALL_TIMEOUT: u32 = 300;

impl Bench {
    /// Passes `seconds` seconds, with a tick each. The idler tells of its attempts and does nothing; the others in `moving`
    /// have read more each time. Returns what the ticks brought.
    fn idle(&mut self, seconds: u32, idler: &[(u32, u32)], moving: &[(u64, (u32, u32))]) -> Vec<Action> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            self.pass(SECOND);
            self.beat(1, idler);
            for &(worker, attempt) in moving {
                let read = self.now.as_secs();
                self.beat_at(worker, &[attempt], read);
            }
            all.extend(self.tick());
        }
        all
    }
}

fn benched(actions: &[Action]) -> Vec<u64> {
    let stalled = |action: &Action| match action {
        Action::Stalled { worker } => Some(worker.0),
        _ => None,
    };
    actions.iter().filter_map(stalled).collect()
}

#[test]
fn a_worker_that_took_everything_and_only_beats_loses_it_to_one_that_is_idle() {
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 1024);
    bench.join(2, 1);
    assert!(bench.idle(STALL_TIMEOUT - 1, &[(0, 1), (1, 1)], &[(2, (9, 9))]).is_empty());
    let actions = bench.idle(1, &[(0, 1), (1, 1)], &[(2, (9, 9))]);
    assert_eq!(revoked(&actions), [(1, 0, 1), (1, 1, 1)]);
    assert_eq!(benched(&actions), [1]);
    assert_eq!(given(&actions), [(2, 0)], "and nothing for the first worker, which has a thousand slots");
    assert_eq!(bench.schedule.counters().stalled, 2);
    assert_eq!(given(&bench.finish(2, 0, 2, 0)), [(2, 1)]);
    assert!(published(&bench.finish(2, 1, 2, 0)));
}

#[test]
fn a_stall_is_no_failure_of_the_task() {
    let limits = Limits { max_attempts: 1, ..Limits::default() };
    let mut bench = Bench::limited(tasks(1, 1), limits);
    bench.join(1, 1);
    bench.join(2, 1);
    let actions = bench.idle(STALL_TIMEOUT, &[(0, 1)], &[(2, (9, 9))]);
    assert_eq!(assigned(&actions), [(2, 0, 2, vec![0])], "one counted failure would have ended the merge");
    assert_eq!(bench.schedule.counters().expired, 0);
}

#[test]
fn progress_of_any_counter_and_a_finished_piece_begin_the_time_anew() {
    let efforts = [
        Effort { read: 1, ..Effort::default() },
        Effort { fused: 1, ..Effort::default() },
        Effort { put: 1, ..Effort::default() },
    ];
    for effort in efforts {
        let mut bench = Bench::new(tasks(1, 2));
        bench.join(1, 1);
        bench.join(2, 1);
        assert!(bench.idle(STALL_TIMEOUT - 1, &[(0, 1)], &[(2, (9, 9))]).is_empty());
        bench.step(Event::Heartbeat { worker: WorkerId(1), running: vec![(TaskId(0), Epoch(1), effort)] });
        assert!(bench.idle(STALL_TIMEOUT - 1, &[(0, 1)], &[(2, (9, 9))]).is_empty(), "{effort:?}");
        bench.report(1, 0, 1, 0);
        assert!(bench.idle(STALL_TIMEOUT - 1, &[(0, 1)], &[(2, (9, 9))]).is_empty(), "{effort:?}");
        // Neither the same counters nor smaller ones, nor the same piece, are progress.
        bench.step(Event::Heartbeat { worker: WorkerId(1), running: vec![(TaskId(0), Epoch(1), effort)] });
        bench.beat(1, &[(0, 1)]);
        bench.report(1, 0, 1, 0);
        assert_eq!(revoked(&bench.idle(1, &[(0, 1)], &[(2, (9, 9))])), [(1, 0, 1)], "{effort:?}");
    }
}

#[test]
fn one_task_that_stands_still_goes_while_the_workers_others_move() {
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 2);
    bench.join(2, 1);
    for _ in 1..STALL_TIMEOUT {
        bench.pass(SECOND);
        bench.beat(2, &[]);
        bench.beat(1, &[(1, 1)]);
        let read = bench.now.as_secs();
        bench.beat_at(1, &[(0, 1)], read);
        assert!(bench.tick().is_empty());
    }
    let actions = bench.idle(1, &[(1, 1)], &[(1, (0, 1)), (2, (9, 9))]);
    assert_eq!((revoked(&actions), given(&actions)), (vec![(1, 1, 1)], vec![(2, 1)]));
    // The first task still moves, so its worker may have more at once.
    assert_eq!(benched(&actions), [1]);
    let read = bench.now.as_secs() + 1;
    bench.beat_at(1, &[(0, 1)], read);
    assert_eq!(given(&bench.fail(2, 1, 2, ErrorKind::Stale, "")), []);
    bench.leave(2);
    bench.pass(SECOND * 2);
    assert_eq!(given(&bench.tick()), [(1, 1)]);
}

#[test]
fn nothing_stalls_while_nobody_else_could_do_it() {
    // Alone.
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    assert!(bench.idle(STALL_TIMEOUT * 3, &[(0, 1)], &[]).is_empty());
    // With another one whose attempt stands still as well: the store may be away.
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 1);
    bench.join(2, 1);
    for _ in 0..STALL_TIMEOUT * 3 {
        bench.pass(SECOND);
        bench.beat(1, &[(0, 1)]);
        bench.beat(2, &[(1, 1)]);
        assert!(bench.tick().is_empty());
    }
    // From now on the other one moves, and the time begins.
    assert!(bench.idle(STALL_TIMEOUT - 1, &[(0, 1)], &[(2, (1, 1))]).is_empty());
    assert_eq!(revoked(&bench.idle(1, &[(0, 1)], &[(2, (1, 1))])), [(1, 0, 1)]);
}

#[test]
fn a_jump_of_the_clock_is_one_lease_of_standing_still() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.join(2, 1);
    bench.idle(1, &[(0, 1)], &[(2, (9, 9))]);
    bench.pass(LEASE * 100);
    assert!(bench.idle(1, &[(0, 1)], &[(2, (9, 9))]).is_empty());
}

#[test]
fn the_bench_lasts_twice_as_long_each_time_until_a_task_is_done() {
    let mut bench = Bench::new(tasks(9, 1));
    bench.join(2, 1);
    assert_eq!(given(&bench.join(1, 1)), [(1, 1)]);
    let mut epoch = 1;
    for bench_lasts in [STALL_TIMEOUT, 2 * STALL_TIMEOUT] {
        let actions = bench.idle(STALL_TIMEOUT, &[(1, epoch)], &[(2, (0, 1))]);
        assert_eq!(benched(&actions), [1]);
        // To join again does not help.
        bench.leave(1);
        assert_eq!(given(&bench.join(1, 1)), []);
        assert_eq!(given(&bench.idle(bench_lasts - 1, &[], &[(2, (0, 1))])), []);
        assert_eq!(given(&bench.idle(1, &[], &[(2, (0, 1))])), [(1, 1)]);
        epoch += 1;
    }
    bench.finish(1, 1, epoch, 0);
    bench.idle(STALL_TIMEOUT, &[(2, 1)], &[(2, (0, 1))]);
    assert_eq!(given(&bench.idle(STALL_TIMEOUT - 1, &[], &[(2, (0, 1))])), []);
    assert_eq!(given(&bench.idle(1, &[], &[(2, (0, 1))])), [(1, 3)]);
}

#[test]
fn the_bench_is_left_when_nobody_else_is_there() {
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 1);
    bench.join(2, 1);
    let actions = bench.idle(STALL_TIMEOUT, &[(0, 1)], &[(2, (1, 1))]);
    assert_eq!(benched(&actions), [1]);
    bench.leave(2);
    assert_eq!(given(&bench.idle(1, &[], &[])), [(1, 1)]);
}
