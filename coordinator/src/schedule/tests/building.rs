//! What makes a schedule, and what does not.

use super::*;
use crate::schedule::InvalidSchedule;

fn refusal(tasks: Vec<TaskSpec>) -> InvalidSchedule {
    Schedule::new(tasks, Limits::default(), Epoch(1), []).expect_err("these tasks do not fit together")
}

fn refused_receipts(receipts: Vec<(u32, u32, &str)>) -> InvalidSchedule {
    let receipts = receipts.into_iter().map(|(task, piece, id)| (TaskId(task), Piece(piece), receipt(id)));
    Schedule::new(tasks(2, 2), Limits::default(), Epoch(1), receipts).expect_err("these receipts do not fit")
}

fn after(before: &[u32]) -> TaskSpec {
    TaskSpec { after: before.iter().copied().map(TaskId).collect(), ..task(1) }
}

#[test]
fn a_task_without_pieces_is_refused() {
    assert_eq!(refusal(vec![task(1), task(0)]), InvalidSchedule::NoPieces { task: TaskId(1) });
}

#[test]
fn a_piece_listed_twice_is_refused() {
    let twice = TaskSpec { pieces: vec![Piece(4), Piece(5), Piece(4)], ..task(1) };
    assert_eq!(refusal(vec![twice]), InvalidSchedule::DuplicatePiece { task: TaskId(0), piece: Piece(4) });
}

#[test]
fn a_task_after_an_unknown_one_is_refused() {
    let expected = InvalidSchedule::UnknownAfter { task: TaskId(1), after: TaskId(9) };
    assert_eq!(refusal(vec![task(1), after(&[0, 9])]), expected);
}

#[test]
fn a_cycle_is_refused_and_names_a_task_of_it() {
    assert_eq!(refusal(vec![after(&[0])]), InvalidSchedule::Cycle { task: TaskId(0) });
    let cycle = refusal(vec![task(1), after(&[0, 3]), after(&[1]), after(&[2])]);
    assert_eq!(cycle, InvalidSchedule::Cycle { task: TaskId(1) });
}

#[test]
fn a_task_named_twice_in_after_blocks_once() {
    let mut bench = Bench::new(vec![task(1), after(&[0, 0])]);
    bench.join(1, 1);
    assert_eq!(given(&bench.finish(1, 0, 1, 0)), [(1, 1)]);
}

#[test]
fn a_receipt_of_an_unknown_task_or_piece_is_refused() {
    let unknown = |task, piece| InvalidSchedule::UnknownReceipt { task: TaskId(task), piece: Piece(piece) };
    assert_eq!(refused_receipts(vec![(7, 0, "a")]), unknown(7, 0));
    assert_eq!(refused_receipts(vec![(0, 2, "a")]), unknown(0, 2));
}

#[test]
fn two_different_receipts_of_a_piece_are_refused_and_equal_ones_are_one() {
    let conflict = InvalidSchedule::ConflictingReceipts { task: TaskId(0), piece: Piece(1) };
    assert_eq!(refused_receipts(vec![(0, 1, "a"), (0, 1, "b")]), conflict);
    let twice = [(TaskId(0), Piece(1), receipt("a")), (TaskId(0), Piece(1), receipt("a"))];
    let schedule = Schedule::new(tasks(1, 2), Limits::default(), Epoch(1), twice).expect("they are equal");
    assert_eq!(schedule.progress().pieces_done, 1);
}

#[test]
fn a_limit_of_zero_is_refused_by_its_name() {
    let limits = Limits { worker_strikes: 0, ..Limits::default() };
    let error = Schedule::new(tasks(1, 1), limits, Epoch(1), []).expect_err("nobody could ever fail");
    assert_eq!(error.to_string(), "limit worker_strikes is zero");
}

#[test]
fn epochs_that_could_run_over_are_refused() {
    let error = Schedule::new(tasks(1, 1), Limits::default(), Epoch(u32::MAX - 5), []).expect_err("only five fit");
    assert_eq!(error, InvalidSchedule::EpochOverflow { first: Epoch(u32::MAX - 5), attempt_cap: 100 });
}
