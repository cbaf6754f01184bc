//! The ledger against a model, and the cases that a fleet meets.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const LEASE: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn attempt(task: u32) -> Attempt {
    Attempt { merge: "m".into(), task, epoch: 1 }
}

fn report(task: u32, piece: u32) -> v1::PieceDone {
    v1::PieceDone { attempt: Some((&attempt(task)).into()), piece, ..v1::PieceDone::default() }
}

fn assigned(task: u32) -> Event {
    Event::Assigned { attempt: attempt(task), lease: LEASE }
}

fn finished(task: u32, piece: u32) -> Event {
    Event::Finished { attempt: attempt(task), report: report(task, piece) }
}

fn ended(task: u32) -> Event {
    Event::Ended { attempt: attempt(task), failure: None }
}

fn acknowledged(task: u32, piece: u32) -> Event {
    Event::Acknowledged { attempt: attempt(task), piece }
}

type Pieces = Vec<(u32, u32)>;
type Failures = Vec<(u32, v1::ErrorKind)>;

/// Everything that is to be said now: pieces as (task, piece), failures as (task, kind), and that it leaves.
fn say(ledger: &mut Ledger, now: Duration) -> (Pieces, Failures, bool) {
    let (mut pieces, mut failures, mut draining) = (Vec::new(), Vec::new(), false);
    while let Some(message) = ledger.next_message(now) {
        match message {
            from_worker::Message::PieceDone(p) => pieces.push((p.attempt.unwrap().task, p.piece)),
            from_worker::Message::TaskFailed(f) => failures.push((f.attempt.as_ref().unwrap().task, f.kind())),
            from_worker::Message::Draining(_) => draining = true,
            other => panic!("the ledger does not say {other:?}"),
        }
    }
    assert!(!ledger.has_message());
    (pieces, failures, draining)
}

fn opened(slots: u32) -> Ledger {
    let mut ledger = Ledger::new(slots);
    assert_eq!(ledger.step(at(0), Event::Opened), []);
    ledger
}

#[test]
fn receipts_are_said_again_in_every_session_until_they_are_acknowledged() {
    let mut ledger = opened(1);
    assert_eq!(ledger.step(at(0), assigned(1)), [Action::Start(attempt(1))]);
    for piece in [0, 1, 2] {
        ledger.step(at(1), finished(1, piece));
    }
    assert_eq!(say(&mut ledger, at(1)).0, [(1, 0), (1, 1), (1, 2)]);
    assert_eq!(say(&mut ledger, at(1)).0, [], "once a session");
    ledger.step(at(2), acknowledged(1, 1));
    ledger.step(at(2), Event::Closed);
    // The attempt ends while nobody listens; its receipts are kept.
    ledger.step(at(3), ended(1));
    ledger.step(at(4), Event::Opened);
    assert_eq!(ledger.alive().collect::<Vec<_>>(), [&attempt(1)]);
    assert_eq!(say(&mut ledger, at(4)).0, [(1, 0), (1, 2)]);
    ledger.step(at(5), acknowledged(1, 0));
    ledger.step(at(5), acknowledged(1, 2));
    assert_eq!(ledger.alive().count(), 0);
    assert!(ledger.entries.is_empty(), "what is acknowledged is forgotten");
}

#[test]
fn a_revocation_drops_the_work_and_its_receipts() {
    let mut ledger = opened(1);
    ledger.step(at(0), assigned(1));
    ledger.step(at(0), assigned(2));
    ledger.step(at(1), finished(1, 0));
    let revoked = |task| Event::Revoked { attempt: attempt(task) };
    assert_eq!(ledger.step(at(1), revoked(1)), [Action::Abort(attempt(1)), Action::Start(attempt(2))]);
    assert_eq!((say(&mut ledger, at(1)).0, ledger.receipt_bytes), (vec![], 0));
    // What its work still reports is nobody's.
    assert_eq!(ledger.step(at(2), finished(1, 1)), []);
    assert_eq!(ledger.step(at(2), ended(1)), []);
    assert_eq!(say(&mut ledger, at(2)).0, []);
    assert_eq!(ledger.step(at(2), revoked(7)), [], "one that was never here");
}

#[test]
fn a_lease_ends_here_before_it_ends_there_and_a_heartbeat_renews_it() {
    let mut ledger = opened(2);
    ledger.step(at(0), assigned(1));
    ledger.step(at(0), Event::Closed);
    assert_eq!(ledger.step(at(24), Event::Tick), []);
    assert_eq!(ledger.step(at(25), Event::Tick), [Action::Hold(attempt(1))], "five sixths of 30 s");
    // Pieces that were under way are finished and kept.
    assert_eq!(ledger.step(at(40), finished(1, 0)), []);
    ledger.step(at(60), Event::Opened);
    assert_eq!(ledger.step(at(60), Event::HeartbeatSent), [Action::Resume(attempt(1))]);
    assert_eq!(say(&mut ledger, at(60)).0, [(1, 0)]);
    assert_eq!(ledger.step(at(86), Event::Tick), [Action::Hold(attempt(1))]);
}

#[test]
fn more_assignments_than_slots_wait_and_more_than_that_go_back() {
    let mut ledger = opened(1);
    assert_eq!(ledger.step(at(0), assigned(0)), [Action::Start(attempt(0))]);
    for task in 1..=QUEUE as u32 {
        assert_eq!(ledger.step(at(0), assigned(task)), []);
    }
    ledger.step(at(0), assigned(900));
    assert_eq!(say(&mut ledger, at(0)).1, [(900, v1::ErrorKind::Stale)]);
    assert_eq!(ledger.step(at(1), assigned(0)), [], "the same again changes nothing");
    assert_eq!(ledger.step(at(1), ended(0)), [Action::Start(attempt(1))], "in the order of arrival");
    // A hostile coordinator fills no memory.
    for task in 1000..9000 {
        ledger.step(at(1), assigned(task));
    }
    assert!(ledger.entries.len() <= 4 * (1 + QUEUE));
}

#[test]
fn too_many_receipts_hold_the_work_until_some_are_acknowledged() {
    let mut ledger = opened(1);
    ledger.step(at(0), assigned(1));
    ledger.step(at(0), assigned(2));
    let sums = v1::PieceDone { result: Some(v1::piece_done::Result::Sums(vec![0; RECEIPT_BYTES])), ..report(1, 0) };
    let big = Event::Finished { attempt: attempt(1), report: sums };
    assert_eq!(ledger.step(at(1), big), [Action::Hold(attempt(1))]);
    assert_eq!(ledger.step(at(1), ended(1)), [], "nothing new is begun either");
    assert_eq!(ledger.step(at(2), acknowledged(1, 0)), [Action::Start(attempt(2))]);
}

#[test]
fn a_failure_follows_its_receipts_and_is_said_again_within_a_lease() {
    let mut ledger = opened(1);
    ledger.step(at(0), assigned(1));
    ledger.step(at(1), finished(1, 0));
    let failure = v1::TaskFailed {
        attempt: Some((&attempt(1)).into()),
        kind: v1::ErrorKind::Transient.into(),
        ..v1::TaskFailed::default()
    };
    ledger.step(at(1), Event::Ended { attempt: attempt(1), failure: Some(failure) });
    assert!(matches!(ledger.next_message(at(1)), Some(from_worker::Message::PieceDone(_))));
    assert!(matches!(ledger.next_message(at(1)), Some(from_worker::Message::TaskFailed(_))));
    ledger.step(at(2), acknowledged(1, 0));
    assert_eq!(ledger.alive().count(), 0, "a failed attempt has no lease to keep");
    ledger.step(at(3), Event::Closed);
    ledger.step(at(4), Event::Opened);
    assert_eq!(say(&mut ledger, at(4)).1, [(1, v1::ErrorKind::Transient)], "it may have been lost with the session");
    ledger.step(at(35), Event::Opened);
    assert!(ledger.entries.is_empty(), "the coordinator has ended the attempt by now");
}

#[test]
fn who_leaves_hands_back_what_waits_and_finishes_what_runs() {
    let mut ledger = opened(1);
    ledger.step(at(0), assigned(1));
    ledger.step(at(0), assigned(2));
    assert_eq!(ledger.step(at(1), Event::Drain), [Action::Abort(attempt(2))]);
    let (_, failures, draining) = say(&mut ledger, at(1));
    assert_eq!((failures, draining), (vec![(2, v1::ErrorKind::Stale)], true));
    ledger.step(at(2), assigned(3));
    assert_eq!(say(&mut ledger, at(2)).1, [(3, v1::ErrorKind::Stale)], "nothing new is taken");
    ledger.step(at(3), finished(1, 0));
    assert_eq!(ledger.step(at(3), ended(1)), [], "a receipt waits");
    assert_eq!(say(&mut ledger, at(3)).0, [(1, 0)]);
    assert_eq!(ledger.step(at(4), acknowledged(1, 0)), [Action::Leave]);
    assert_eq!(ledger.step(at(5), Event::Tick), [], "once");
}

#[test]
fn when_the_grace_is_over_what_runs_goes_back() {
    let mut ledger = opened(1);
    ledger.step(at(0), assigned(1));
    ledger.step(at(1), Event::Drain);
    ledger.step(at(2), finished(1, 0));
    say(&mut ledger, at(2));
    assert_eq!(ledger.step(at(26), Event::GraceOver), [Action::Abort(attempt(1))]);
    assert_eq!(say(&mut ledger, at(26)).1, [(1, v1::ErrorKind::Stale)]);
    assert_eq!(ledger.step(at(26), Event::Tick), [Action::Leave], "whether its receipt is acknowledged or not");
}

#[test]
fn nobody_waits_for_a_coordinator_that_is_not_there_and_is_owed_nothing() {
    let mut ledger = Ledger::new(1);
    assert_eq!(ledger.step(at(1), Event::Drain), [Action::Leave]);
    let mut ledger = opened(1);
    ledger.step(at(0), assigned(1));
    ledger.step(at(1), Event::Closed);
    assert_eq!(ledger.step(at(1), Event::Drain), [], "a part is finished, and offered until the grace is over");
    ledger.step(at(2), finished(1, 0));
    assert_eq!(ledger.step(at(2), ended(1)), []);
    assert_eq!(ledger.step(at(26), Event::GraceOver), [Action::Leave]);
}

/// What the ledger must agree with, kept in the simplest way.
#[derive(Debug, Default)]
struct Model {
    running: BTreeSet<Attempt>,
    held: BTreeSet<Attempt>,
    /// Finished by work that ran, neither acknowledged nor revoked.
    owed: BTreeMap<Attempt, BTreeSet<u32>>,
    left: bool,
}

impl Model {
    fn act(&mut self, actions: &[Action], slots: usize) {
        for action in actions {
            match action {
                Action::Start(a) => assert!(self.running.insert(a.clone()), "{a} is started twice"),
                Action::Abort(a) => {
                    self.running.remove(a);
                    self.held.remove(a);
                }
                Action::Hold(a) => assert!(self.running.contains(a) && self.held.insert(a.clone()), "{a} is held"),
                Action::Resume(a) => assert!(self.running.contains(a) && self.held.remove(a), "{a} was not held"),
                Action::Leave => {
                    assert!(!self.left, "it leaves once");
                    self.left = true;
                }
            }
        }
        assert!(self.running.len() <= slots, "{} run in {slots} slots", self.running.len());
        if self.left {
            assert!(self.running.is_empty(), "nothing runs when it leaves");
        }
    }
}

fn events() -> impl Strategy<Value = Event> {
    let task = 0..8u32;
    let piece = 0..3u32;
    prop_oneof![
        4 => task.clone().prop_map(assigned),
        4 => (task.clone(), piece.clone()).prop_map(|(t, p)| finished(t, p)),
        3 => (task.clone(), piece).prop_map(|(t, p)| acknowledged(t, p)),
        2 => task.clone().prop_map(ended),
        1 => task.clone().prop_map(|t| Event::Ended {
            attempt: attempt(t),
            failure: Some(v1::TaskFailed { attempt: Some((&attempt(t)).into()), ..v1::TaskFailed::default() }),
        }),
        1 => task.prop_map(|t| Event::Revoked { attempt: attempt(t) }),
        1 => Just(Event::Opened),
        1 => Just(Event::Closed),
        2 => Just(Event::HeartbeatSent),
        2 => Just(Event::Tick),
        1 => prop_oneof![9 => Just(Event::Tick), 1 => Just(Event::Drain), 1 => Just(Event::GraceOver)],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order: no more run than slots, nothing starts or stops twice, a receipt goes only by
    /// acknowledgement or revocation, and each session says all that is owed, once.
    #[test]
    fn nothing_is_lost_and_nothing_runs_wild(
        slots in 1u32..4,
        steps in prop::collection::vec((events(), 0u64..12, any::<bool>()), 0..120),
    ) {
        let mut ledger = Ledger::new(slots);
        let mut model = Model::default();
        let mut now = Duration::ZERO;
        let mut told: BTreeSet<(u32, u32)> = BTreeSet::new();
        for (event, seconds, speak) in steps {
            now += at(seconds);
            match &event {
                Event::Finished { attempt, report } if model.running.contains(attempt) => {
                    model.owed.entry(attempt.clone()).or_default().insert(report.piece);
                    told.remove(&(attempt.task, report.piece));
                }
                Event::Acknowledged { attempt, piece } => {
                    if let Some(owed) = model.owed.get_mut(attempt) {
                        owed.remove(piece);
                    }
                }
                Event::Ended { attempt, .. } => {
                    model.running.remove(attempt);
                    model.held.remove(attempt);
                }
                Event::Revoked { attempt } => _ = model.owed.remove(attempt),
                Event::Opened => told.clear(),
                _ => {}
            }
            let actions = ledger.step(now, event);
            model.act(&actions, slots as usize);
            model.owed.retain(|_, pieces| !pieces.is_empty());

            let owed: BTreeSet<(u32, u32)> =
                model.owed.iter().flat_map(|(a, pieces)| pieces.iter().map(|p| (a.task, *p))).collect();
            let kept: BTreeSet<(u32, u32)> = ledger
                .entries
                .iter()
                .flat_map(|(a, e)| e.receipts.keys().map(|p| (a.task, *p)))
                .collect();
            prop_assert_eq!(&kept, &owed);
            for a in model.running.iter().chain(model.owed.keys()) {
                prop_assert!(ledger.alive().any(|alive| alive == a), "{} is kept alive", a);
            }
            let bytes: usize = ledger.entries.values().flat_map(|e| e.receipts.values()).map(|(r, _)| weight(r)).sum();
            prop_assert_eq!(ledger.receipt_bytes, bytes);
            if ledger.open && speak {
                let (pieces, _, _) = say(&mut ledger, now);
                for piece in pieces {
                    prop_assert!(told.insert(piece), "{:?} is said twice in a session", piece);
                }
                prop_assert!(owed.is_subset(&told), "all that is owed is said");
                told.retain(|piece| owed.contains(piece));
            }
        }
    }
}
