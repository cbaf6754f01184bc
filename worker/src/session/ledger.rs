//! What a worker owes its coordinator: which attempts run, which receipts are not acknowledged, what is to be said.
//!
//! A pure machine. It is told what happened and when, and answers what to do with the attempts' work; what to say is asked
//! of it one message at a time ([`Ledger::next_message`]), whenever the stream has room, so nothing queues up outside.
//!
//! ```text
//!              a slot is free,             all pieces done
//!   Assigned   the lease lasts                              receipts acknowledged
//!  ----------> Queued ------> Running ---------> Complete ------------------------> (forgotten)
//!      |          |            |  ^ |
//!      |    drain |       hold |  | | failed, handed back
//!      |          v            v  | v                       told, and a lease has passed
//!      +-------> Failed      (held)  Failed --------------------------------------> (forgotten)
//!    no room                                   Revoked, from anywhere: aborted and forgotten, receipts too
//! ```
//!
//! An attempt is **held** while its lease has ended by this worker's own clock, or while too many receipts wait to be
//! acknowledged: pieces that are being made go on and are put, no further ones are begun. A heartbeat that could be
//! sent renews the lease and lets it go on, unless the coordinator answers with a revocation.

use std::collections::BTreeMap;
use std::time::Duration;

use shardfuse_proto::v1::{self, from_worker};

use super::attempt::Attempt;

/// Attempts that wait for a slot, at the most, beside those that run.
const QUEUE: usize = 64;
/// What may wait to be acknowledged before nothing new is begun, in bytes.
const RECEIPT_BYTES: usize = 32 << 20;
/// What a receipt takes beside its texts and sums, about.
const RECEIPT_BASE: usize = 512;

/// What happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A session stands: everything that is not acknowledged is said again.
    Opened,
    /// The session is lost.
    Closed,
    /// A heartbeat that lists all of [`Ledger::alive`] went out.
    HeartbeatSent,
    /// An assignment came.
    Assigned {
        /// The attempt.
        attempt: Attempt,
        /// From receipt to the end of the lease.
        lease: Duration,
    },
    /// A piece is in the journal.
    Acknowledged {
        /// The attempt.
        attempt: Attempt,
        /// The piece.
        piece: u32,
    },
    /// The attempt is over.
    Revoked {
        /// The attempt.
        attempt: Attempt,
    },
    /// A piece is finished.
    Finished {
        /// The attempt.
        attempt: Attempt,
        /// Its report.
        report: v1::PieceDone,
    },
    /// The attempt's work ended.
    Ended {
        /// The attempt.
        attempt: Attempt,
        /// What is told if it failed.
        failure: Option<v1::TaskFailed>,
    },
    /// Take nothing new.
    Drain,
    /// Hand back what still runs.
    GraceOver,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Begin the work.
    Start(Attempt),
    /// Stop the work and forget the assignment.
    Abort(Attempt),
    /// Begin no further piece.
    Hold(Attempt),
    /// Go on.
    Resume(Attempt),
    /// Everything is told: end the session.
    Leave,
}

#[derive(Debug, Clone)]
enum Phase {
    Queued,
    Running {
        held: bool,
    },
    Complete,
    /// Told at a time in this session or an earlier one. Failures are not acknowledged.
    Failed {
        message: Box<v1::TaskFailed>,
        told: Option<Duration>,
        again: bool,
    },
}

#[derive(Debug, Clone)]
struct Entry {
    phase: Phase,
    /// The order of arrival.
    number: u64,
    lease: Duration,
    /// When it ends by this worker's clock.
    until: Duration,
    /// Not acknowledged, with whether they were told in this session.
    receipts: BTreeMap<u32, (v1::PieceDone, bool)>,
}

/// What a worker owes its coordinator.
#[derive(Debug, Default)]
pub struct Ledger {
    slots: usize,
    entries: BTreeMap<Attempt, Entry>,
    arrived: u64,
    receipt_bytes: usize,
    open: bool,
    draining: bool,
    drain_told: bool,
    over: bool,
    left: bool,
}

impl Ledger {
    /// A ledger that runs so many attempts at a time.
    pub fn new(slots: u32) -> Self {
        Ledger { slots: slots.max(1) as usize, ..Ledger::default() }
    }

    /// Takes an event at a time, counted from any origin that stays the same.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        let mut out = Vec::new();
        match event {
            Event::Opened => {
                self.open = true;
                self.drain_told = false;
                for entry in self.entries.values_mut() {
                    entry.receipts.values_mut().for_each(|(_, told)| *told = false);
                    if let Phase::Failed { again, .. } = &mut entry.phase {
                        *again = true;
                    }
                }
            }
            Event::Closed => self.open = false,
            Event::HeartbeatSent => self.entries.values_mut().for_each(|e| e.until = now + own(e.lease)),
            Event::Assigned { attempt, lease } => self.assigned(now, attempt, lease),
            Event::Acknowledged { attempt, piece } => {
                if let Some(entry) = self.entries.get_mut(&attempt)
                    && let Some((report, _)) = entry.receipts.remove(&piece)
                {
                    self.receipt_bytes -= weight(&report);
                }
            }
            Event::Revoked { attempt } => self.revoked(&attempt, &mut out),
            Event::Finished { attempt, report } => self.finished(&attempt, report),
            Event::Ended { attempt, failure } => {
                if let Some(entry) = self.entries.get_mut(&attempt)
                    && matches!(entry.phase, Phase::Queued | Phase::Running { .. })
                {
                    entry.phase = match failure {
                        None => Phase::Complete,
                        Some(message) => failed(message),
                    };
                }
            }
            Event::Drain => {
                self.draining = true;
                self.hand_back(|phase| matches!(phase, Phase::Queued), &mut out);
            }
            Event::GraceOver => {
                self.draining = true;
                self.over = true;
                self.hand_back(|phase| matches!(phase, Phase::Queued | Phase::Running { .. }), &mut out);
            }
            Event::Tick => {}
        }
        self.settle(now, &mut out);
        out
    }

    /// Every attempt whose lease is to be kept: those that wait for a slot or run, and those with receipts that are not
    /// acknowledged.
    pub fn alive(&self) -> impl Iterator<Item = &Attempt> {
        self.entries
            .iter()
            .filter(|(_, e)| matches!(e.phase, Phase::Queued | Phase::Running { .. }) || !e.receipts.is_empty())
            .map(|(attempt, _)| attempt)
    }

    /// Whether an attempt is here, in whatever state.
    pub fn knows(&self, attempt: &Attempt) -> bool {
        self.entries.contains_key(attempt)
    }

    /// Whether an attempt waits for a slot.
    pub fn is_queued(&self, attempt: &Attempt) -> bool {
        self.entries.get(attempt).is_some_and(|e| matches!(e.phase, Phase::Queued))
    }

    /// Whether [`Self::next_message`] has one.
    pub fn has_message(&self) -> bool {
        self.open && (self.draining && !self.drain_told || self.entries.values().any(Entry::has_message))
    }

    /// What to say next in this session, and takes it as said. Receipts of an attempt come before its failure.
    pub fn next_message(&mut self, now: Duration) -> Option<from_worker::Message> {
        if !self.open {
            return None;
        }
        if self.draining && !self.drain_told {
            self.drain_told = true;
            return Some(from_worker::Message::Draining(v1::Draining {}));
        }
        let entry = self.entries.values_mut().find(|e| e.has_message())?;
        if let Some((report, told)) = entry.receipts.values_mut().find(|(_, told)| !told) {
            *told = true;
            return Some(from_worker::Message::PieceDone(report.clone()));
        }
        match &mut entry.phase {
            Phase::Failed { message, told, again } => {
                *told = Some(now);
                *again = false;
                Some(from_worker::Message::TaskFailed((**message).clone()))
            }
            Phase::Queued | Phase::Running { .. } | Phase::Complete => None,
        }
    }

    fn assigned(&mut self, now: Duration, attempt: Attempt, lease: Duration) {
        // The same assignment again changes nothing. One beyond all measure is not even answered: its lease will end.
        if self.entries.contains_key(&attempt) || self.entries.len() >= 4 * (self.slots + QUEUE) {
            return;
        }
        let active = self.entries.values().filter(|e| matches!(e.phase, Phase::Queued | Phase::Running { .. })).count();
        let refusal = if self.draining {
            Some("this worker is leaving".to_owned())
        } else if active >= self.slots + QUEUE {
            Some(format!("this worker has {active} attempts already and runs {} at a time", self.slots))
        } else {
            None
        };
        let phase = match refusal {
            Some(why) => failed(stale(&attempt, why)),
            None => Phase::Queued,
        };
        self.arrived += 1;
        let entry = Entry { phase, number: self.arrived, lease, until: now + own(lease), receipts: BTreeMap::new() };
        self.entries.insert(attempt, entry);
    }

    fn revoked(&mut self, attempt: &Attempt, out: &mut Vec<Action>) {
        let Some(entry) = self.entries.remove(attempt) else { return };
        self.receipt_bytes -= entry.receipts.values().map(|(r, _)| weight(r)).sum::<usize>();
        if matches!(entry.phase, Phase::Queued | Phase::Running { .. }) {
            out.push(Action::Abort(attempt.clone()));
        }
    }

    fn finished(&mut self, attempt: &Attempt, report: v1::PieceDone) {
        // A piece of an attempt that was handed back or revoked is nobody's.
        let Some(entry) = self.entries.get_mut(attempt).filter(|e| matches!(e.phase, Phase::Running { .. })) else {
            return;
        };
        let bytes = weight(&report);
        if let Some((before, _)) = entry.receipts.insert(report.piece, (report, false)) {
            self.receipt_bytes -= weight(&before);
        }
        self.receipt_bytes += bytes;
    }

    fn hand_back(&mut self, which: impl Fn(&Phase) -> bool, out: &mut Vec<Action>) {
        for (attempt, entry) in self.entries.iter_mut().filter(|(_, e)| which(&e.phase)) {
            entry.phase = failed(stale(attempt, "handed back: this worker is leaving".to_owned()));
            out.push(Action::Abort(attempt.clone()));
        }
    }

    /// Brings what runs in line with slots, leases and receipts, and forgets what is over.
    fn settle(&mut self, now: Duration, out: &mut Vec<Action>) {
        self.entries.retain(|_, e| match &e.phase {
            Phase::Queued | Phase::Running { .. } => true,
            Phase::Complete => !e.receipts.is_empty(),
            // The coordinator has ended the attempt by then, whether it heard of it or not.
            Phase::Failed { told, .. } => !e.receipts.is_empty() || told.is_none_or(|t| now < t + e.lease),
        });
        let full = self.receipt_bytes >= RECEIPT_BYTES;
        let mut running = 0;
        for (attempt, entry) in &mut self.entries {
            let over = entry.until <= now;
            let Phase::Running { held } = &mut entry.phase else { continue };
            running += 1;
            if *held != (over || full) {
                *held = !*held;
                out.push(if *held { Action::Hold(attempt.clone()) } else { Action::Resume(attempt.clone()) });
            }
        }
        while running < self.slots && !full {
            let waiting = self.entries.iter_mut().filter(|(_, e)| matches!(e.phase, Phase::Queued) && e.until > now);
            let Some((attempt, entry)) = waiting.min_by_key(|(_, e)| e.number) else { break };
            entry.phase = Phase::Running { held: false };
            running += 1;
            out.push(Action::Start(attempt.clone()));
        }
        if self.draining && !self.left && running == 0 && self.told() {
            self.left = true;
            out.push(Action::Leave);
        }
    }

    /// Whether there is nothing left to say or to wait for.
    fn told(&self) -> bool {
        let waiting = self.entries.values().any(|e| !e.receipts.is_empty());
        if self.over && !self.open {
            return true;
        }
        let said = !self.has_message() && self.entries.values().all(|e| !e.unsaid());
        said && (self.over || !waiting) && (self.open || self.entries.is_empty())
    }
}

impl Entry {
    fn has_message(&self) -> bool {
        self.receipts.values().any(|(_, told)| !told) || self.unsaid()
    }

    fn unsaid(&self) -> bool {
        matches!(self.phase, Phase::Failed { again: true, .. })
    }
}

/// The lease as this worker keeps it: shorter, so that it ends here before it ends there.
fn own(lease: Duration) -> Duration {
    lease - lease / 6
}

fn failed(message: v1::TaskFailed) -> Phase {
    Phase::Failed { message: Box::new(message), told: None, again: true }
}

fn stale(attempt: &Attempt, message: String) -> v1::TaskFailed {
    v1::TaskFailed {
        attempt: Some(attempt.into()),
        kind: v1::ErrorKind::Stale.into(),
        failure: shardfuse_merge::Kind::Interrupted.as_str().to_owned(),
        message,
        hint: String::new(),
    }
}

/// The memory that a receipt takes, about.
fn weight(report: &v1::PieceDone) -> usize {
    let result = match &report.result {
        Some(v1::piece_done::Result::Sums(sums)) => sums.len(),
        Some(v1::piece_done::Result::Part(part)) => part.store_id.len() + part.chaining.len(),
        None => 0,
    };
    let names = report.zero_factors.iter().chain(&report.live_factors);
    let effects = report.effects.as_ref().map_or(0, |told| told.effects.len() * size_of::<v1::Effect>());
    RECEIPT_BASE + effects + result + names.map(|n| n.len() + size_of::<String>()).sum::<usize>()
}

#[cfg(test)]
mod tests;
