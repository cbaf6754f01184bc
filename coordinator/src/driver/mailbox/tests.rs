//! What a driver hears of that does not read for a while.

use shardfuse_proto::v1::{self, from_worker};
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::schedule::{Effort, Epoch, TaskId, WorkerId};

const ONE: WorkerId = WorkerId(1);
const TWO: WorkerId = WorkerId(2);

fn small() -> (Mailbox, Inbox) {
    with_limits(Limits { worker: 4 << 10, all: 6 << 10 })
}

fn joined(worker: WorkerId, slots: u32) -> Input {
    Input::Joined { worker, name: String::new(), session: 1, slots, outbound: mpsc::channel(1).0 }
}

fn report(worker: WorkerId, piece: u32) -> Input {
    let done = v1::PieceDone { piece, ..v1::PieceDone::default() };
    Input::Said { worker, message: from_worker::Message::PieceDone(done) }
}

fn beat(worker: WorkerId, task: u32) -> Input {
    Input::Beat { worker, running: vec![(TaskId(task), Epoch(1), Effort::default())] }
}

/// Everything that waits, in few words.
fn heard(inbox: &mut Inbox) -> Vec<String> {
    let mut all = Vec::new();
    while let Some(input) = inbox.try_recv() {
        all.push(match input {
            Input::Joined { worker, slots, .. } => format!("{worker} joined with {slots}"),
            Input::Slots { worker, slots } => format!("{worker} has {slots}"),
            Input::Beat { worker, running } => format!("{worker} runs {}", running[0].0),
            Input::Said { worker, message: from_worker::Message::PieceDone(done) } => {
                format!("{worker} made {}", done.piece)
            }
            Input::Left { worker } => format!("{worker} left"),
            other => format!("{other:?}"),
        });
    }
    all
}

#[test]
fn inputs_keep_their_order_and_each_report_is_heard_once() {
    let (mailbox, mut inbox) = small();
    for input in [joined(ONE, 2), report(ONE, 0), joined(TWO, 1), report(ONE, 1), Input::Left { worker: ONE }] {
        mailbox.send(input).unwrap();
    }
    let order = ["1 joined with 2", "1 made 0", "2 joined with 1", "1 made 1", "1 left"];
    assert_eq!(heard(&mut inbox), order);
    assert_eq!(heard(&mut inbox), [""; 0]);
}

#[test]
fn of_heartbeats_and_slots_the_newest_waits_for_each_worker() {
    let (mailbox, mut inbox) = small();
    mailbox.send(joined(ONE, 0)).unwrap();
    for n in 0..100_000 {
        mailbox.send(Input::Slots { worker: ONE, slots: n }).unwrap();
        mailbox.send(beat(ONE, n)).unwrap();
        mailbox.send(Input::Slots { worker: TWO, slots: n }).unwrap();
    }
    // A heartbeat tells what runs after all that was reported before it.
    mailbox.send(report(ONE, 7)).unwrap();
    mailbox.send(beat(ONE, 5)).unwrap();
    assert_eq!(heard(&mut inbox), ["1 joined with 99999", "2 has 99999", "1 made 7", "1 runs 5"]);
}

#[test]
fn slots_from_after_a_leave_do_not_pass_it() {
    let (mailbox, mut inbox) = small();
    for input in
        [Input::Slots { worker: ONE, slots: 1 }, Input::Left { worker: ONE }, Input::Slots { worker: ONE, slots: 2 }]
    {
        mailbox.send(input).unwrap();
    }
    assert_eq!(heard(&mut inbox), ["1 has 1", "1 left", "1 has 2"]);
}

#[test]
fn a_worker_that_reports_too_much_is_taken_as_gone_and_the_others_are_heard() {
    let (mailbox, mut inbox) = small();
    mailbox.send(report(TWO, 0)).unwrap();
    let overrun = (0..100).find(|piece| mailbox.send(report(ONE, *piece)) == Err(Refused::Overrun)).unwrap();
    assert!(overrun > 3, "{overrun} reports fit");
    mailbox.send(report(TWO, 1)).unwrap();
    // It comes back, and reports again.
    mailbox.send(joined(ONE, 1)).unwrap();
    mailbox.send(report(ONE, 0)).unwrap();
    assert_eq!(heard(&mut inbox), ["2 made 0", "1 left", "2 made 1", "1 joined with 1", "1 made 0"]);
}

#[test]
fn workers_that_come_and_go_for_ever_fill_no_memory() {
    let (mailbox, mut inbox) = small();
    for _ in 0..10_000 {
        let _ = mailbox.send(joined(ONE, 1));
        let _ = mailbox.send(Input::Left { worker: ONE });
    }
    let heard = heard(&mut inbox);
    assert!(heard.len() <= 8, "{} wait", heard.len());
    assert_eq!(heard.last().map(String::as_str), Some("1 left"));
}

#[test]
fn many_workers_together_have_a_limit_too() {
    let (mailbox, mut inbox) = small();
    let refused = (1..100).filter(|worker| mailbox.send(report(WorkerId(*worker), 0)).is_err()).count();
    let heard = heard(&mut inbox);
    assert!(heard.iter().filter(|h| h.ends_with("made 0")).count() < 12);
    assert_eq!(heard.iter().filter(|h| h.ends_with("left")).count(), refused, "each that was refused is taken as gone");
}

#[test]
fn a_question_beyond_a_few_is_answered_by_silence() {
    let (mailbox, inbox) = small();
    let mut answers: Vec<_> = (0..1000)
        .map(|_| {
            let (reply, answer) = oneshot::channel();
            mailbox.send(Input::Layers(reply)).unwrap();
            answer
        })
        .collect();
    let open =
        |answer: &mut oneshot::Receiver<_>| matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Empty));
    assert_eq!(answers.iter_mut().filter_map(|a| open(a).then_some(())).count(), 64);
    drop(inbox);
    assert!(answers.iter_mut().all(|a| !open(a)), "a driver that ends answers all");
}

#[tokio::test]
async fn a_driver_that_waits_is_woken_and_one_that_ended_takes_nothing() {
    let (mailbox, mut inbox) = small();
    let reading = tokio::spawn(async move { (inbox.recv().await, inbox) });
    tokio::task::yield_now().await;
    mailbox.send(Input::Cancel).unwrap();
    let (input, inbox) = reading.await.unwrap();
    assert!(matches!(input, Input::Cancel));
    drop(inbox);
    assert_eq!(mailbox.send(Input::Cancel), Err(Refused::Ended));
}
