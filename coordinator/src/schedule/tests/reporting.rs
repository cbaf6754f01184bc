//! Receipts: accepted, journaled, acknowledged.

use super::*;

fn disagreeing(store_id: &str) -> Receipt {
    Receipt { chaining: Some([8; 32]), ..receipt(store_id) }
}

/// Two live attempts at task 0, of pieces 0 to 3: worker 1 in epoch 1, worker 2 in epoch 2 without piece 0.
fn repeated() -> Bench {
    let mut bench = Bench::new(vec![task(4), TaskSpec { affinity: 1, ..task(1) }]);
    bench.join(1, 1);
    bench.join(2, 1);
    bench.pass(SECOND);
    bench.report(1, 0, 1, 0);
    bench.finish(2, 1, 1, 0);
    bench.pass(SECOND * 20);
    bench.beat(1, &[(0, 1)]);
    bench.beat(2, &[]);
    assert_eq!(assigned(&bench.tick()), [(2, 0, 2, vec![1, 2, 3])]);
    bench
}

#[test]
fn a_receipt_is_persisted_at_once_and_acknowledged_only_when_journaled() {
    let mut bench = Bench::new(tasks(1, 2));
    bench.join(1, 1);
    let actions = bench.report_with(1, 0, 1, 0, receipt("a"));
    let expected = Action::Persist { task: TaskId(0), piece: Piece(0), epoch: Epoch(1), receipt: receipt("a") };
    assert_eq!(actions, [expected]);
    assert_eq!(acked(&bench.persist(0, 0)), [(1, 0, 1, 0)]);
}

#[test]
fn a_report_sent_again_is_harmless_before_and_after_it_is_journaled() {
    let mut bench = Bench::new(tasks(1, 2));
    bench.join(1, 1);
    bench.report(1, 0, 1, 0);
    assert!(bench.report(1, 0, 1, 0).is_empty());
    assert_eq!(acked(&bench.persist(0, 0)), [(1, 0, 1, 0)]);
    let actions = bench.report(1, 0, 1, 0);
    assert_eq!(actions.len(), 1);
    assert_eq!(acked(&actions), [(1, 0, 1, 0)]);
    assert_eq!(bench.schedule.counters().duplicates, 2);
}

#[test]
fn a_report_sent_again_after_the_task_was_finished_is_acknowledged() {
    let mut bench = Bench::new(tasks(2, 1));
    bench.join(1, 1);
    bench.report(1, 0, 1, 0);
    assert!(bench.report(1, 0, 1, 0).is_empty());
    bench.persist(0, 0);
    assert_eq!(acked(&bench.report(1, 0, 1, 0)), [(1, 0, 1, 0)]);
}

#[test]
fn the_first_receipt_stays_and_every_reporter_is_acknowledged() {
    let mut bench = repeated();
    bench.report_with(2, 0, 2, 1, receipt("first"));
    assert!(bench.report_with(1, 0, 1, 1, receipt("second")).is_empty());
    assert_eq!(acked(&bench.persist(0, 1)), [(2, 0, 2, 1), (1, 0, 1, 1)]);
    let kept: Vec<_> =
        bench.schedule.receipts(TaskId(0)).map(|(piece, receipt)| (piece.0, &*receipt.store_id)).collect();
    assert_eq!(kept, [(0, "1/0/1/0"), (1, "first")]);
}

#[test]
fn a_later_receipt_for_other_bytes_is_dropped_and_shows_in_the_counters() {
    let mut bench = repeated();
    bench.report_with(2, 0, 2, 1, receipt("first"));
    bench.report_with(1, 0, 1, 1, disagreeing("second"));
    assert_eq!((bench.schedule.counters().duplicates, bench.schedule.counters().disagreeing), (1, 1));
}

#[test]
fn who_reports_the_last_piece_supersedes_the_other() {
    let mut bench = repeated();
    bench.report(1, 0, 1, 1);
    bench.report(1, 0, 1, 2);
    assert_eq!(revoked(&bench.report(1, 0, 1, 3)), [(2, 0, 2)]);
    assert_eq!(revoked(&bench.report(2, 0, 2, 3)), [(2, 0, 2)]);
    assert_eq!(bench.schedule.counters().stale, 1);
    assert!(bench.beat(1, &[(0, 1)]).is_empty(), "it waits for its acknowledgement");
}

#[test]
fn who_reports_the_last_piece_is_revoked_too_if_it_is_still_at_another() {
    let mut bench = repeated();
    bench.report(2, 0, 2, 1);
    bench.report(1, 0, 1, 2);
    assert_eq!(revoked(&bench.report(1, 0, 1, 3)), [(1, 0, 1), (2, 0, 2)]);
    assert_eq!(acked(&bench.persist(0, 3)), [(1, 0, 1, 3)]);
}

#[test]
fn a_report_under_the_epoch_of_another_worker_is_stale() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    bench.join(2, 1);
    let actions = bench.report(2, 0, 1, 0);
    assert_eq!(revoked(&actions), [(2, 0, 1)]);
    assert!(to_persist(&actions).is_empty());
    assert_eq!(to_persist(&bench.report(1, 0, 1, 0)), [(0, 0, 1)]);
}

#[test]
fn what_an_ended_attempt_reports_is_stale_and_revoked() {
    let mut bench = Bench::new(tasks(1, 2));
    bench.join(1, 1);
    bench.fail(1, 0, 1, ErrorKind::Transient, "reset");
    let actions = bench.report(1, 0, 1, 0);
    assert_eq!(revoked(&actions), [(1, 0, 1)]);
    assert!(to_persist(&actions).is_empty());
    assert_eq!(bench.schedule.counters().stale, 1);
}

#[test]
fn a_receipt_accepted_before_the_attempt_ended_is_kept_and_acknowledged() {
    let mut bench = Bench::new(tasks(1, 2));
    bench.join(1, 1);
    bench.report(1, 0, 1, 0);
    bench.fail(1, 0, 1, ErrorKind::Transient, "reset");
    assert_eq!(acked(&bench.persist(0, 0)), [(1, 0, 1, 0)]);
    bench.pass(SECOND);
    assert_eq!(assigned(&bench.tick()), [(1, 0, 2, vec![1])]);
}

#[test]
fn a_piece_or_task_that_there_is_not_changes_nothing() {
    let mut bench = Bench::new(tasks(1, 1));
    bench.join(1, 1);
    assert!(bench.report(1, 0, 1, 9).is_empty());
    assert_eq!(revoked(&bench.report(1, 9, 1, 0)), [(1, 9, 1)]);
    assert!(bench.persist(0, 0).is_empty());
    assert!(bench.persist(9, 0).is_empty());
    assert_eq!((bench.schedule.counters().ignored, bench.schedule.counters().stale), (3, 1));
}

#[test]
fn a_piece_is_journaled_once_however_often_that_is_said() {
    let mut bench = Bench::new(tasks(1, 2));
    bench.join(1, 1);
    bench.report(1, 0, 1, 0);
    bench.persist(0, 0);
    assert!(bench.persist(0, 0).is_empty());
    assert_eq!(bench.schedule.progress().pieces_done, 1);
}

#[test]
fn the_progress_counts_journaled_pieces_and_their_bytes() {
    let mut bench = Bench::new(vec![task(3), task(1)]);
    bench.join(1, 1);
    bench.report(1, 0, 1, 0);
    assert_eq!(bench.schedule.progress().pieces_done, 0);
    bench.persist(0, 0);
    let progress = bench.schedule.progress();
    assert_eq!((progress.waiting, progress.running, progress.done), (1, 1, 0));
    assert_eq!((progress.pieces_done, progress.pieces_total), (1, 4));
    assert_eq!((progress.bytes_done, progress.bytes_total), (33, 200));
    bench.finish(1, 0, 1, 1);
    bench.finish(1, 0, 1, 2);
    assert_eq!(bench.schedule.progress().bytes_done, 100);
}
