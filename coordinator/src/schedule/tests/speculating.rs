//! Second attempts at what is slow.

use super::*;

/// Worker 1 runs task 0; worker 2 has done task 1 in one second and is free.
fn bench() -> Bench {
    let mut bench = Bench::new(of_affinities(&[1, 2]));
    bench.join(1, 1);
    bench.join(2, 1);
    bench.pass(SECOND);
    bench.finish(2, 1, 1, 0);
    bench
}

#[test]
fn a_slow_attempt_is_repeated_elsewhere_when_nothing_else_is_left() {
    let mut bench = bench();
    bench.pass(SECOND * 2);
    assert!(bench.tick().is_empty(), "not slower than three times the typical second");
    bench.pass(SECOND);
    assert_eq!(assigned(&bench.tick()), [(2, 0, 2, vec![0])]);
    assert_eq!((bench.schedule.counters().speculated, bench.schedule.counters().retries), (1, 0));
}

#[test]
fn nothing_is_repeated_a_second_time() {
    let mut bench = bench();
    bench.join(3, 1);
    bench.pass(SECOND * 20);
    assert_eq!(assigned(&bench.tick()).len(), 1);
    assert!(assigned(&bench.tick()).is_empty());
}

#[test]
fn nothing_is_repeated_on_its_own_worker() {
    let mut bench = bench();
    bench.leave(2);
    bench.join(1, 5);
    bench.pass(SECOND * 20);
    assert!(bench.tick().is_empty());
}

#[test]
fn nothing_is_repeated_before_anything_has_finished() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.join(2, 1);
    bench.pass(SECOND * 20);
    assert!(bench.tick().is_empty());
}

#[test]
fn nothing_is_repeated_while_a_task_is_ready() {
    let mut bench = Bench::new(of_affinities(&[1, 2, 3, 4]));
    bench.join(1, 1);
    bench.join(2, 1);
    bench.pass(SECOND);
    bench.finish(2, 1, 1, 0);
    bench.pass(SECOND * 20);
    assert!(bench.tick().is_empty());
    assert_eq!(given(&bench.join(3, 1)), [(3, 3)]);
}

#[test]
fn an_attempt_is_slow_by_its_number_of_pieces() {
    let mut bench = Bench::new(vec![task(4), TaskSpec { affinity: 1, ..task(1) }]);
    bench.join(1, 1);
    bench.join(2, 1);
    bench.pass(SECOND);
    bench.finish(2, 1, 1, 0);
    bench.pass(SECOND * 11);
    assert!(bench.tick().is_empty(), "four pieces may take three times four seconds");
    bench.pass(SECOND);
    assert_eq!(given(&bench.tick()), [(2, 0)]);
}

#[test]
fn the_oldest_attempt_is_repeated_first() {
    let mut bench = Bench::new(of_affinities(&[1, 2, 3]));
    bench.join(2, 1);
    bench.pass(SECOND);
    bench.join(1, 1);
    bench.join(3, 1);
    bench.pass(SECOND);
    bench.finish(3, 2, 1, 0);
    bench.pass(SECOND * 20);
    assert_eq!(assigned(&bench.tick()), [(3, 0, 2, vec![0])]);
}

#[test]
fn the_last_attempt_under_the_cap_is_not_spent_on_a_repeat() {
    let mut bench = Bench::limited(of_affinities(&[1, 2]), Limits { attempt_cap: 2, ..Limits::default() });
    bench.join(1, 1);
    bench.join(2, 1);
    bench.finish(2, 1, 1, 0);
    bench.pass(SECOND);
    assert!(bench.tick().is_empty());
}

#[test]
fn a_task_whose_failures_are_used_up_is_not_repeated_again() {
    let mut bench = Bench::limited(of_affinities(&[1, 2]), Limits { max_attempts: 1, ..Limits::default() });
    bench.join(1, 1);
    bench.join(2, 1);
    bench.finish(2, 1, 1, 0);
    bench.pass(SECOND);
    assert_eq!(assigned(&bench.tick()), [(2, 0, 2, vec![0])]);
    bench.fail(1, 0, 1, ErrorKind::Transient, "reset");
    bench.join(3, 1);
    bench.pass(SECOND * 20);
    assert!(assigned(&bench.tick()).is_empty());
}

#[test]
fn when_the_first_attempt_ends_the_repeat_goes_on() {
    let mut bench = bench();
    bench.pass(SECOND * 20);
    bench.tick();
    bench.leave(1);
    assert!(published(&bench.finish(2, 0, 2, 0)));
}

#[test]
fn when_the_repeat_ends_the_first_attempt_goes_on() {
    let mut bench = bench();
    bench.pass(SECOND * 20);
    bench.tick();
    bench.leave(2);
    assert!(published(&bench.finish(1, 0, 1, 0)));
}
