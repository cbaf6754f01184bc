//! Size: a schedule that looked at all tasks in every step would not end here within minutes.

use std::collections::VecDeque;

use super::*;

#[test]
fn fifty_thousand_tasks_on_two_hundred_workers_are_published() {
    const TASKS: u32 = 50_000;
    let specs = (0..TASKS)
        .map(|id| TaskSpec {
            // A measurement before every hundred tasks, as wide an `after` as a plan has.
            after: if id % 100 == 0 { Vec::new() } else { vec![TaskId(id - id % 100)] },
            affinity: u64::from(id / 500),
            ..task(2)
        })
        .collect();
    let mut bench = Bench::new(specs);
    let mut work = VecDeque::new();
    for worker in 0..200 {
        work.extend(assigned(&bench.join(worker, 2)));
    }
    let mut steps = 0_u64;
    let mut done = false;
    while let Some((worker, task, epoch, pieces)) = work.pop_front() {
        for piece in pieces {
            let actions = bench.finish(worker, task, epoch, piece);
            done |= published(&actions);
            work.extend(assigned(&actions));
        }
        steps += 1;
        if steps.is_multiple_of(1000) {
            bench.pass(SECOND);
            bench.tick();
        }
    }
    assert!(done);
    assert_eq!(steps, u64::from(TASKS));
}

#[test]
fn a_fleet_that_comes_and_goes_over_fifty_thousand_tasks_costs_no_more() {
    let mut bench = Bench::limited(tasks(50_000, 1), Limits { attempt_cap: 1_000_000, ..Limits::default() });
    for round in 0..2_000 {
        bench.join(round % 50, 4);
        bench.leave(round % 37);
        bench.tick();
    }
    assert_eq!(bench.schedule.outcome(), None);
}
