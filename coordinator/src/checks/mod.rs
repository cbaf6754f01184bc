//! Parts that are computed a second time before publication: by whom, and what follows when two workers disagree.
//!
//! A pure machine beside the schedule. It follows which workers are there from the start. Once every piece is journaled,
//! [`Checks::begin`] chooses a share of the parts, and each goes to a worker that did not make it. Nothing is put.
//!
//! ```text
//!            Assign            same digest as the journal's
//!   open ------------> live ---------------------------------> agreed
//!    ^                  |  |
//!    |  lost, failed    |  |  another digest: open again, for a third worker
//!    '------------------'  |
//!    '---------------------'---- two of three agree ----> agreed, or dropped if they differ from the journal's
//! ```
//!
//! - If two of three agree, the third is **odd**. It gets nothing more, and its digests no longer count. The parts that it made
//!   are lost, checked or not, except those that another worker agreed with.
//! - If all three digests differ, the merge fails and names all three.
//! - If no worker may check a part, the machine waits. After a timeout the merge fails. The error names the workers that computed
//!   the part, and says how many workers are connected.
//! - A check that takes longer than ten leases goes to another worker, and so does one whose worker was lost or failed.

mod action;
mod decide;
mod event;
mod part;
#[cfg(test)]
mod properties;
mod seat;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::schedule::{Epoch, Piece, TaskId, WorkerId};

pub use action::{Action, Undecidable, Verdict};
pub use event::Event;
pub use part::{CheckId, Digest, Part};

use seat::{Check, Live, Seat};

/// How often one check may fail before the merge does.
const MOST_FAILURES: u32 = 20;
/// Leases that a check may last.
const LONGEST: u32 = 10;

/// The parts that are computed a second time.
#[derive(Debug, Clone)]
pub struct Checks {
    lease: Duration,
    /// How long a check waits for a worker that may compute it.
    timeout: Duration,
    first_epoch: Epoch,
    now: Duration,
    seats: BTreeMap<WorkerId, Seat>,
    parts: Vec<Part>,
    checks: Vec<Check>,
    /// Checks that are not settled and have no live attempt.
    open: BTreeSet<CheckId>,
    live: BTreeSet<CheckId>,
    odd: BTreeSet<WorkerId>,
    /// Since when somebody is missing.
    lonely: Option<Duration>,
    begun: bool,
    ended: bool,
}

impl Checks {
    /// Nothing is checked before [`Self::begin`]. A worker that is not heard of for `lease` is lost.
    pub fn new(lease: Duration, timeout: Duration, first_epoch: Epoch) -> Self {
        Self {
            lease,
            timeout,
            first_epoch,
            now: Duration::ZERO,
            seats: BTreeMap::new(),
            parts: Vec::new(),
            checks: Vec::new(),
            open: BTreeSet::new(),
            live: BTreeSet::new(),
            odd: BTreeSet::new(),
            lonely: None,
            begun: false,
            ended: false,
        }
    }

    /// Chooses the share `fraction` of `parts` by `seed`, and begins to check them.
    pub fn begin(&mut self, now: Duration, parts: Vec<Part>, seed: u64, fraction: f64) -> Vec<Action> {
        self.now = self.now.max(now);
        self.begun = true;
        let chosen = parts.iter().filter(|part| is_chosen(seed, fraction, part.task, part.piece));
        self.checks = chosen.copied().map(Check::new).collect();
        self.parts = parts;
        self.open = (0..).map(CheckId).take(self.checks.len()).collect();
        let mut out = Vec::new();
        self.finish(&mut out);
        self.place(&mut out);
        out
    }

    /// Takes in an event.
    pub fn step(&mut self, now: Duration, event: Event) -> Vec<Action> {
        self.now = self.now.max(now);
        let mut out = Vec::new();
        match event {
            Event::Joined { worker, slots } => {
                let (now, barred) = (self.now, self.odd.contains(&worker));
                let running = BTreeSet::new();
                let new = Seat { slots, here: true, draining: false, barred, seen: now, running };
                let seat = self.seats.entry(worker).or_insert(new);
                (seat.slots, seat.here, seat.draining, seat.seen) = (slots, true, false, now);
            }
            Event::Slots { worker, slots } => self.change(worker, |seat| seat.slots = slots),
            Event::Draining { worker } => self.change(worker, |seat| seat.draining = true),
            Event::Barred { worker } => self.change(worker, |seat| seat.barred = true),
            Event::Left { worker } => {
                self.change(worker, |seat| seat.here = false);
                self.give_back(worker, &mut out);
            }
            Event::Heartbeat { worker, running } => self.beat(worker, &running, &mut out),
            Event::Made { worker, check, epoch, digest } => self.made(worker, check, epoch, digest, &mut out),
            Event::Failed { worker, check, epoch, message } => {
                if self.is_live(worker, check, epoch) {
                    self.release(check);
                    let failed = &mut self.checks[check.0 as usize];
                    failed.failed(worker, message);
                    failed.not_before = self.now + self.lease / 30;
                    self.open.insert(check);
                }
            }
            Event::Tick => self.tick(&mut out),
        }
        if self.is_under_way() {
            self.finish(&mut out);
            self.place(&mut out);
        }
        out
    }

    /// Slots that could be in use.
    pub fn demand(&self) -> u32 {
        u32::try_from(self.open.len() + self.live.len()).unwrap_or(u32::MAX)
    }

    /// Whether checks are under way.
    pub fn is_under_way(&self) -> bool {
        self.begun && !self.ended
    }

    /// The part that a check is about.
    pub fn part(&self, check: CheckId) -> Option<Part> {
        Some(self.checks.get(check.0 as usize)?.part)
    }

    fn change(&mut self, worker: WorkerId, change: impl FnOnce(&mut Seat)) {
        if let Some(seat) = self.seats.get_mut(&worker) {
            change(seat);
        }
    }

    fn is_live(&self, worker: WorkerId, check: CheckId, epoch: Epoch) -> bool {
        let live = self.checks.get(check.0 as usize).and_then(|check| check.live);
        live.is_some_and(|live| (live.worker, live.epoch) == (worker, epoch))
    }

    /// Takes the live attempt from a check and its worker.
    fn release(&mut self, id: CheckId) -> Option<Live> {
        let live = self.checks[id.0 as usize].live.take()?;
        self.live.remove(&id);
        self.change(live.worker, |seat| _ = seat.running.remove(&id));
        Some(live)
    }

    fn beat(&mut self, worker: WorkerId, running: &[(CheckId, Epoch)], out: &mut Vec<Action>) {
        let now = self.now;
        self.change(worker, |seat| (seat.here, seat.seen) = (true, now));
        for &(check, epoch) in running {
            if !self.is_live(worker, check, epoch) {
                out.push(Action::Revoke { worker, check, epoch });
            } else if let Some(live) = &mut self.checks[check.0 as usize].live {
                live.deadline = now + self.lease;
            }
        }
    }

    /// What a worker ran is for others.
    fn give_back(&mut self, worker: WorkerId, out: &mut Vec<Action>) {
        let running = self.seats.get(&worker).map(|seat| seat.running.clone()).unwrap_or_default();
        for check in running {
            if let Some(Live { worker, epoch, .. }) = self.release(check) {
                out.push(Action::Revoke { worker, check, epoch });
                self.open.insert(check);
            }
        }
    }

    fn tick(&mut self, out: &mut Vec<Action>) {
        let (now, lease) = (self.now, self.lease);
        let silent = self.seats.iter().filter(|(_, seat)| seat.here && seat.seen + lease <= now);
        for worker in silent.map(|(worker, _)| *worker).collect::<Vec<_>>() {
            self.change(worker, |seat| seat.here = false);
            self.give_back(worker, out);
        }
        for check in self.live.clone() {
            let Some(live) = self.checks[check.0 as usize].live else { continue };
            let too_long = live.began + lease * LONGEST <= now;
            if too_long || live.deadline <= now {
                self.release(check);
                out.push(Action::Revoke { worker: live.worker, check, epoch: live.epoch });
                if too_long {
                    let message = format!("worker {} had it for {LONGEST} leases", live.worker);
                    self.checks[check.0 as usize].failed(live.worker, message);
                }
                self.open.insert(check);
            }
        }
        if self.is_under_way() {
            self.look_for_somebody(out);
        }
    }

    /// Gives open checks to workers that have room and may do them.
    fn place(&mut self, out: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        let room = |seat: &Seat| seat.may_work() && seat.running.len() < seat.slots as usize;
        let free: Vec<WorkerId> = self.seats.iter().filter(|(_, seat)| room(seat)).map(|(id, _)| *id).collect();
        for worker in free {
            while self.seats.get(&worker).is_some_and(room) {
                let can = |id: &&CheckId| {
                    let check = &self.checks[id.0 as usize];
                    check.may(worker) && check.not_before <= self.now
                };
                let Some(id) = self.open.iter().find(can).copied() else { break };
                let check = &mut self.checks[id.0 as usize];
                let epoch = Epoch(self.first_epoch.0 + check.tries);
                check.tries += 1;
                check.live = Some(Live { worker, epoch, began: self.now, deadline: self.now + self.lease });
                self.open.remove(&id);
                self.live.insert(id);
                self.change(worker, |seat| _ = seat.running.insert(id));
                out.push(Action::Assign { worker, check: id, epoch });
            }
        }
    }
}

/// Whether a part is of the share.
fn is_chosen(seed: u64, fraction: f64, task: TaskId, piece: Piece) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&task.0.to_le_bytes());
    hasher.update(&piece.0.to_le_bytes());
    let mut drawn = [0; 8];
    hasher.finalize_xof().fill(&mut drawn);
    // 53 bits are what an f64 holds exactly; a share of one takes every value.
    ((u64::from_le_bytes(drawn) >> 11) as f64) < fraction * (1_u64 << 53) as f64
}
