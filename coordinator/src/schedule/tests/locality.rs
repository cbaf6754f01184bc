//! Which of the ready tasks a worker gets.

use super::*;

#[test]
fn a_worker_goes_on_with_the_affinity_it_has() {
    let mut bench = Bench::new(of_affinities(&[5, 6, 6, 5]));
    bench.join(1, 1);
    assert_eq!(given(&bench.report(1, 0, 1, 0)), [(1, 3)]);
}

#[test]
fn a_worker_goes_on_with_the_task_that_follows_its_last_and_wraps_around() {
    let mut bench = Bench::new(of_affinities(&[5, 5, 5, 5]));
    bench.join(1, 1);
    bench.join(2, 1);
    assert_eq!(given(&bench.report(2, 1, 1, 0)), [(2, 2)]);
    bench.leave(1);
    assert_eq!(given(&bench.report(2, 2, 1, 0)), [(2, 3)]);
    assert_eq!(given(&bench.report(2, 3, 1, 0)), [(2, 0)]);
}

#[test]
fn a_new_worker_gets_an_affinity_that_nobody_works_on() {
    let mut bench = Bench::new(of_affinities(&[5, 5, 6, 6]));
    bench.join(1, 1);
    assert_eq!(given(&bench.join(2, 1)), [(2, 2)]);
}

#[test]
fn with_every_affinity_taken_a_new_worker_gets_the_lowest_task() {
    let mut bench = Bench::new(of_affinities(&[5, 6, 6, 5]));
    bench.join(1, 1);
    bench.join(2, 1);
    assert_eq!(given(&bench.join(3, 1)), [(3, 2)]);
}

#[test]
fn an_affinity_that_is_no_longer_worked_on_is_free_again() {
    let mut bench = Bench::new(of_affinities(&[5, 6, 6, 5]));
    bench.join(1, 1);
    bench.join(2, 1);
    bench.leave(2);
    assert_eq!(given(&bench.join(3, 1)), [(3, 1)]);
}

#[test]
fn who_holds_the_affinity_is_served_before_who_opens_a_new_one() {
    // Task 0 frees the others. Worker 1 has a slot by its lower number, worker 2 has the factors of task 1.
    let after = |affinity| TaskSpec { after: vec![TaskId(0)], affinity, ..task(1) };
    let mut bench = Bench::new(vec![task(1), TaskSpec { affinity: 6, ..task(1) }, after(6), after(7)]);
    bench.join(3, 1);
    bench.join(2, 1);
    bench.join(1, 1);
    bench.finish(2, 1, 1, 0);
    bench.drain(3);
    assert_eq!(given(&bench.finish(3, 0, 1, 0)), [(2, 2), (1, 3)]);
}

#[test]
fn a_worker_that_comes_back_is_not_taken_to_hold_anything() {
    let mut bench = Bench::new(of_affinities(&[5, 6, 6, 5]));
    bench.join(1, 1);
    bench.join(2, 1);
    bench.finish(2, 1, 1, 0);
    bench.leave(2);
    bench.leave(1);
    assert_eq!(given(&bench.join(2, 1)), [(2, 0)]);
}
