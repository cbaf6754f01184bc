//! Faults of a coordinator that are planted as events: each law about attempts must find its own, and nothing in a sound run.

use std::collections::BTreeSet;
use std::time::Duration;

use super::attempts::{Attempt, Attempts};

const ONE: Attempt = Attempt { worker: 1, task: 7, epoch: 1 };
const TWO: Attempt = Attempt { worker: 2, task: 7, epoch: 2 };
const OTHER_TASK: Attempt = Attempt { worker: 2, task: 8, epoch: 1 };
const SECOND: Duration = Duration::from_secs(1);

/// A run in which the first attempt was assigned two pieces.
struct Run {
    attempts: Attempts,
    journaled: BTreeSet<(u64, u64)>,
    broken: Vec<String>,
}

impl Run {
    fn new() -> Run {
        let mut run = Run { attempts: Attempts::default(), journaled: BTreeSet::new(), broken: Vec::new() };
        run.assign(Duration::ZERO, ONE);
        run
    }

    fn assign(&mut self, at: Duration, attempt: Attempt) {
        self.attempts.assigned(at, attempt, &[0, 1], &self.journaled, &mut self.broken);
    }

    fn accept(&mut self, attempt: Attempt, piece: u64) {
        self.attempts.accepted(attempt, piece, &mut self.broken);
    }
}

/// A fault with what the law says about it, and what the coordinator does.
type Planted = (&'static str, &'static str, fn(&mut Run));

const PLANTED: [Planted; 12] = [
    ("", "a part from each of two attempts, and a lost worker that comes back", |run| {
        run.assign(SECOND, TWO);
        run.accept(ONE, 0);
        run.attempts.lost(1);
        run.attempts.revoked(ONE);
        run.accept(TWO, 1);
        run.attempts.done(7);
        run.assign(SECOND, Attempt { worker: 1, ..OTHER_TASK });
    }),
    ("", "a backoff that is over", |run| {
        assert!(run.attempts.failed(SECOND, ONE, "Transient"));
        run.assign(2 * SECOND, TWO);
    }),
    ("", "a worker that is lost after its last piece", |run| {
        run.accept(ONE, 0);
        run.accept(ONE, 1);
        run.attempts.lost(1);
        run.assign(SECOND, OTHER_TASK);
    }),
    ("before its backoff is over", "a task that failed and is assigned at once", |run| {
        assert!(run.attempts.failed(SECOND, ONE, "WorkerLocal"));
        run.assign(SECOND + SECOND / 2, TWO);
    }),
    ("failed permanently", "another task after a permanent failure", |run| {
        assert!(run.attempts.failed(SECOND, ONE, "Permanent"));
        run.assign(60 * SECOND, OTHER_TASK);
    }),
    ("which does not live", "a part of an attempt that failed", |run| {
        assert!(run.attempts.failed(SECOND, ONE, "Transient"));
        run.accept(ONE, 0);
    }),
    ("which does not live", "a part of a worker that was lost", |run| {
        run.attempts.lost(1);
        run.attempts.revoked(ONE);
        run.accept(ONE, 0);
    }),
    ("which does not live", "a part of a worker that left", |run| {
        run.attempts.left(1);
        run.accept(ONE, 0);
    }),
    ("lives on", "a lost worker whose attempt was not revoked", |run| {
        run.attempts.lost(1);
        run.assign(SECOND, OTHER_TASK);
    }),
    ("a second time", "a part of both attempts", |run| {
        run.assign(SECOND, TWO);
        run.accept(ONE, 0);
        run.accept(TWO, 0);
    }),
    ("which was given", "a part that nobody asked for", |run| run.accept(ONE, 5)),
    ("are journaled", "a journaled part that is assigned", |run| {
        run.journaled.insert((7, 1));
        run.assign(SECOND, TWO);
    }),
];

/// What the laws miss, or find where nothing is wrong.
pub fn missed() -> Vec<String> {
    let mut missed = Vec::new();
    for (law, fault, plant) in PLANTED {
        let mut run = Run::new();
        plant(&mut run);
        let found = match law {
            "" => run.broken.is_empty(),
            law => run.broken.len() == 1 && run.broken[0].contains(law),
        };
        if !found {
            missed.push(format!("{fault}: the laws say {:?}", run.broken));
        }
    }
    missed
}
