//! What must hold at every moment of a run, looked at with every write that the store does and every event that the
//! services tell, and at the end.
//!
//! - While `config.json` is in the output, so is everything else that the undisturbed merge publishes, byte by byte; or
//!   all of the older model, if there was one.
//! - Weights come into their place once, and nothing that is published goes away.
//! - Coordinators take their epochs one after the other, and write under their own tokens.
//! - What a coordinator journals, it has accepted before; of the one that finishes, no attempt lives in the end.
//! - The laws about attempts stand in [`attempts`].
//! - In the end no state is left, and of uploads only those whose id was lost before it could be written down.

mod attempts;
pub mod planted;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use shardfuse_coordinator::events::MergeEvent;
use shardfuse_coordinator::tombstone;
use shardfuse_merge::Kind;
use shardfuse_proto::v1::Failure;
use shardfuse_store::memory::Memory;
use shardfuse_store::{Location, UploadId};

use self::attempts::{Again, Attempt, Attempts, Piece};
use crate::facts::Facts;
use crate::model;

/// A change that the store has done.
pub enum Done<'a> {
    Written { at: &'a Location, bytes: &'a Bytes },
    Removed { at: &'a Location },
    Begun { upload: &'a UploadId },
    Part { at: &'a Location, number: u32, stale: bool },
    Completed { at: &'a Location },
}

/// The laws of one run, and what they have seen.
pub struct Laws {
    /// What the undisturbed merge publishes.
    reference: BTreeMap<Location, Bytes>,
    /// What is in the output at first.
    older: BTreeMap<Location, Bytes>,
    seen: Mutex<Seen>,
    facts: Mutex<Facts>,
}

#[derive(Default)]
struct Seen {
    broken: Vec<String>,
    failures: Vec<String>,
    /// How often each file came into its place.
    completed: BTreeMap<Location, u32>,
    /// The tokens of the epochs, the first being that of epoch 1; of a seal as well.
    epochs: Vec<String>,
    /// Every epoch with its token that was ever taken, also in a state that was discarded since. A coordinator of that state
    /// may still write its own journal, which nobody reads.
    taken: BTreeSet<(usize, String)>,
    /// The highest epoch of a coordinator.
    highest: u64,
    /// The token of the coordinator that took an epoch last.
    newest: String,
    /// The pieces in the journal of each coordinator, by its token.
    journaled: BTreeMap<String, BTreeSet<Piece>>,
    /// What each coordinator, by its token, knows to be journaled.
    known: BTreeMap<String, BTreeSet<Piece>>,
    begun: BTreeSet<String>,
    noted: BTreeSet<String>,
    /// Parts, by file and number, that were put.
    put: BTreeSet<(String, u32)>,
    /// What each coordinator does with attempts, by the label of its merge.
    attempts: BTreeMap<String, Attempts>,
    /// Workers that were cut off while they had live attempts.
    cut: BTreeSet<u64>,
}

/// An event's fields.
pub type Fields = BTreeMap<String, String>;

impl Laws {
    pub fn new(reference: BTreeMap<Location, Bytes>, older: BTreeMap<Location, Bytes>) -> Laws {
        Laws { reference, older, seen: Mutex::default(), facts: Mutex::default() }
    }

    pub fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }

    /// What was broken so far.
    pub fn broken(&self) -> Vec<String> {
        self.seen.lock().unwrap().broken.clone()
    }

    /// How the merge failed before it was submitted again.
    pub fn failures(&self) -> Vec<String> {
        self.seen.lock().unwrap().failures.clone()
    }

    pub fn breaks(&self, what: impl Into<String>) {
        self.seen.lock().unwrap().broken.push(what.into());
    }

    /// A worker is cut off from now on.
    pub fn cut_off(&self, worker: u64) {
        let mut seen = self.seen.lock().unwrap();
        if seen.is_busy(worker) {
            seen.cut.insert(worker);
        }
    }

    /// Whether a worker has live attempts.
    pub fn is_busy(&self, worker: u64) -> bool {
        self.seen.lock().unwrap().is_busy(worker)
    }

    /// A merge was told to have failed, and is submitted again: only faults of its surroundings may do that to it.
    pub fn failed(&self, failure: &Failure) {
        let told = format!("{} ({})", failure.message, failure.kind);
        self.seen.lock().unwrap().failures.push(told);
        let expected = match Kind::parse(&failure.kind) {
            Some(Kind::Io | Kind::Internal | Kind::Interrupted) => true,
            Some(Kind::OutputBusy) => self.facts().rivals > 0,
            _ => false,
        };
        if !expected {
            self.breaks(format!("the merge failed: {} ({})", failure.message, failure.kind));
        }
    }

    /// The store has done something.
    pub fn done(&self, memory: &Memory, done: &Done<'_>) {
        let mut seen = self.seen.lock().unwrap();
        match done {
            Done::Written { at, bytes } => match name(at).strip_prefix("out/.shardfuse/") {
                Some(state) => {
                    let plan = model::out().join(".shardfuse/plan").expect("it is a name");
                    seen.state_written(state, bytes, !memory.snapshot().contains_key(&plan));
                }
                None if at.is_within(&model::out()) => self.visible(&mut seen, memory, at),
                None => {}
            },
            Done::Removed { at } => {
                if at.is_within(&model::out().join(".shardfuse").expect("it is a name")) {
                    seen.state_removed(&name(at));
                } else if self.reference.contains_key(*at) && (self.older.is_empty() || self.is_published(memory)) {
                    seen.broken.push(format!("{at} was removed"));
                }
            }
            Done::Begun { upload } => _ = seen.begun.insert(upload.as_str().to_owned()),
            Done::Part { at, number, stale } => {
                let again = !seen.put.insert((name(at), *number));
                let mut facts = self.facts();
                facts.parts_again += u64::from(again);
                facts.late_puts += u64::from(*stale || again && seen.completed.contains_key(*at));
            }
            Done::Completed { at } => {
                *seen.completed.entry((*at).clone()).or_default() += 1;
                self.visible(&mut seen, memory, at);
            }
        }
        let mut facts = self.facts();
        facts.epochs = seen.highest;
    }

    /// Whether the merge's manifest is there.
    fn is_published(&self, memory: &Memory) -> bool {
        let last = model::out().join("shardfuse.json").expect("it is a name");
        memory.snapshot().get(&last) == self.reference.get(&last)
    }

    /// Something is visible in the output that was not.
    fn visible(&self, seen: &mut Seen, memory: &Memory, at: &Location) {
        let there = memory.snapshot();
        let config = model::out().join("config.json").expect("it is a name");
        if there.get(&config).is_none_or(|bytes| tombstone::is_tombstone(bytes)) {
            return;
        }
        let manifest = model::out().join("shardfuse.json").expect("it is a name");
        let intact = |(at, bytes): (&Location, &Bytes)| *at == manifest || there.get(at) == Some(bytes);
        if !self.older.is_empty() && self.older.iter().all(intact) {
            return;
        }
        // The manifest comes last.
        let last = model::out().join("shardfuse.json").expect("it is a name");
        for (file, bytes) in &self.reference {
            let found = there.get(file);
            let comes_last = *file == last && found.is_none_or(|bytes| tombstone::is_tombstone(bytes));
            if found != Some(bytes) && !comes_last {
                seen.broken.push(format!("with {at} written, config.json is there and {file} is not what it must be"));
            }
        }
    }

    /// A coordinator tells what happened.
    pub fn event(&self, at: Duration, event: MergeEvent, fields: &Fields) {
        let number = |name: &str| fields.get(name).and_then(|v| v.parse::<u64>().ok());
        let mut seen = self.seen.lock().unwrap();
        // Every event has its merge, and all but `Done` a worker. Without them a law would see nothing.
        let Some(merge) = fields.get("merge") else {
            return seen.broken.push(format!("{event} tells no merge: {fields:?}"));
        };
        let kind = fields.get("kind").map_or("", String::as_str);
        let Seen { attempts, known, cut, broken, .. } = &mut *seen;
        let attempts = attempts.entry(merge.clone()).or_default();
        match (event, number("worker"), number("task"), number("epoch")) {
            (MergeEvent::Assigned, Some(worker), Some(task), Some(epoch)) => {
                let pieces: Vec<u64> = numbers(fields.get("pieces").map_or("", String::as_str));
                let Some(known) = known.get(token_of(merge)) else {
                    return broken.push(format!("a merge runs as {merge}, which took no epoch"));
                };
                let again = attempts.assigned(at, Attempt { worker, task, epoch }, &pieces, known, broken);
                let mut facts = self.facts();
                facts.assigned += 1;
                facts.repeated += u64::from(again == Again::Beside);
                facts.retried += u64::from(again == Again::After);
            }
            (MergeEvent::Accepted, Some(worker), Some(task), Some(epoch)) => match number("piece") {
                Some(piece) => attempts.accepted(Attempt { worker, task, epoch }, piece, broken),
                None => broken.push(format!("{event} does not tell the piece: {fields:?}")),
            },
            (MergeEvent::Revoked, Some(worker), Some(task), Some(epoch)) => {
                attempts.revoked(Attempt { worker, task, epoch });
            }
            (MergeEvent::Failed, Some(worker), Some(task), Some(epoch)) if !kind.is_empty() => {
                let was_live = attempts.failed(at, Attempt { worker, task, epoch }, kind);
                self.facts().failed += u64::from(was_live);
            }
            (MergeEvent::Done, _, Some(task), _) => attempts.done(task),
            (MergeEvent::Left, Some(worker), ..) => attempts.left(worker),
            (MergeEvent::Lost, Some(worker), ..) => {
                attempts.lost(worker);
                self.facts().leases_cut += u64::from(cut.remove(&worker));
            }
            (event, ..) => broken.push(format!("{event} does not tell all of it: {fields:?}")),
        }
    }

    /// Looks at what is left once all is quiet.
    pub fn end(&self, memory: &Memory) {
        let mut seen = self.seen.lock().unwrap();
        let there = memory.snapshot();
        for (file, bytes) in &self.reference {
            if there.get(file) != Some(bytes) {
                seen.broken.push(format!("in the end {file} is not what the undisturbed merge makes"));
            }
        }
        for at in there.keys().filter(|at| at.is_within(&model::out()) && !self.reference.contains_key(at)) {
            seen.broken.push(format!("in the end {at} is left"));
        }
        let weights = self.reference.keys().filter(|at| at.to_string().ends_with(".safetensors"));
        let not_once: Vec<String> = weights
            .map(|at| (at, seen.completed.get(at).copied().unwrap_or(0)))
            .filter(|(_, times)| *times != 1)
            .map(|(at, times)| format!("{at} came into its place {times} times"))
            .collect();
        seen.broken.extend(not_once);
        let newest = seen.attempts.iter().filter(|(merge, _)| token_of(merge) == seen.newest);
        let alive: Vec<u64> = newest.flat_map(|(_, attempts)| attempts.tasks()).collect();
        if !alive.is_empty() {
            seen.broken.push(format!("in the end attempts at the tasks {alive:?} live"));
        }
        let unknown = seen.begun.difference(&seen.noted).count();
        let open = memory.open_uploads();
        if open > unknown {
            seen.broken.push(format!("in the end {open} uploads are open; the ids of {unknown} were lost"));
        }
    }
}

impl Seen {
    fn is_busy(&self, worker: u64) -> bool {
        self.attempts.values().any(|attempts| attempts.is_busy(worker))
    }
}

/// The token of the coordinator that runs a merge, at the end of the merge's label.
fn token_of(merge: &str) -> &str {
    merge.rsplit('-').next().unwrap_or_default()
}

/// A location below the bucket.
fn name(at: &Location) -> String {
    at.to_string().trim_start_matches("s3://bucket/").to_owned()
}

fn numbers(text: &str) -> Vec<u64> {
    text.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse().ok()).collect()
}
