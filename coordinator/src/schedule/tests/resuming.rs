//! A merge that goes on from a journal.

use super::*;

fn resumed(tasks: Vec<TaskSpec>, done: &[(u32, u32)]) -> Bench {
    let done = done.iter().map(|&(task, piece)| (TaskId(task), Piece(piece), receipt("journaled")));
    let schedule = Schedule::new(tasks, Limits::default(), Epoch(70), done).expect("the journal fits");
    Bench { schedule, now: Duration::ZERO }
}

#[test]
fn only_what_the_journal_lacks_is_done_and_in_new_epochs() {
    let mut bench = resumed(tasks(2, 3), &[(0, 0), (0, 1), (0, 2), (1, 1)]);
    assert_eq!(bench.schedule.progress().pieces_done, 4);
    assert_eq!(assigned(&bench.join(1, 2)), [(1, 1, 70, vec![0, 2])]);
    assert_eq!(bench.schedule.next_epoch(), Epoch(71));
    assert_eq!((bench.schedule.attempts(TaskId(0)), bench.schedule.attempts(TaskId(1))), (0, 1));
}

#[test]
fn an_attempt_from_before_is_revoked() {
    let mut bench = resumed(tasks(1, 2), &[(0, 0)]);
    bench.join(1, 1);
    assert_eq!(revoked(&bench.report(1, 0, 1, 1)), [(1, 0, 1)]);
    assert_eq!(revoked(&bench.beat(1, &[(0, 1), (0, 70)])), [(1, 0, 1)]);
}

#[test]
fn a_journaled_task_frees_those_after_it() {
    let after = TaskSpec { after: vec![TaskId(0)], ..task(1) };
    let mut bench = resumed(vec![task(1), after], &[(0, 0)]);
    assert_eq!(given(&bench.join(1, 1)), [(1, 1)]);
}

#[test]
fn a_task_done_before_what_it_came_after_is_not_done_again() {
    let after = TaskSpec { after: vec![TaskId(0)], ..task(1) };
    let mut bench = resumed(vec![task(1), after], &[(1, 0)]);
    assert_eq!(given(&bench.join(1, 2)), [(1, 0)]);
    assert!(published(&bench.finish(1, 0, 70, 0)));
}

#[test]
fn a_finished_merge_publishes_at_its_first_step() {
    let mut bench = resumed(tasks(1, 1), &[(0, 0)]);
    assert_eq!(bench.tick(), [Action::Publish]);
    assert!(bench.tick().is_empty());
}

#[test]
fn the_receipts_of_the_journal_are_those_of_the_merge() {
    let mut bench = resumed(tasks(1, 2), &[(0, 0)]);
    bench.join(1, 1);
    bench.finish(1, 0, 70, 1);
    let ids: Vec<_> = bench.schedule.receipts(TaskId(0)).map(|(_, receipt)| receipt.store_id.as_str()).collect();
    assert_eq!(ids, ["journaled", "1/0/70/1"]);
}
