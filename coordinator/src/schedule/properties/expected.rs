//! Every action but assignments, out of the event and the state before it.

use std::collections::BTreeSet;
use std::time::Duration;

use super::model::{Model, Seat};
use crate::schedule::{AbortReason, Action, Effort, Epoch, ErrorKind, Event, Limits, Piece, Receipt, TaskId, WorkerId};

impl Model {
    pub(super) fn follow(&mut self, event: &Event, out: &mut Vec<Action>) {
        let now = self.now;
        match event {
            Event::WorkerJoined { worker, slots } => {
                let known = self.seats.get(worker);
                let seat = Seat {
                    slots: *slots,
                    here: true,
                    left: false,
                    draining: false,
                    quarantined: known.is_some_and(|seat| seat.quarantined),
                    strikes: known.map_or(0, |seat| seat.strikes),
                    seen: now,
                    last: known.filter(|seat| seat.here).and_then(|seat| seat.last),
                    moved: known.and_then(|seat| seat.moved),
                    stalls: known.map_or(0, |seat| seat.stalls),
                    benched: known.and_then(|seat| seat.benched),
                };
                self.seats.insert(*worker, seat);
            }
            Event::Slots { worker, slots } => {
                if let Some(seat) = self.seats.get_mut(worker) {
                    seat.slots = *slots;
                }
            }
            Event::Heartbeat { worker, running } => {
                if let Some(seat) = self.seats.get_mut(worker).filter(|seat| !seat.left) {
                    seat.here = true;
                    seat.seen = now;
                }
                for &(task, epoch, effort) in running {
                    let deadline = now + self.limits.lease;
                    if let Some(live) = self.attempt(*worker, task, epoch) {
                        live.deadline = deadline;
                        let Effort { read, fused, put } = live.effort;
                        if effort.read > read || effort.fused > fused || effort.put > put {
                            live.effort = Effort {
                                read: read.max(effort.read),
                                fused: fused.max(effort.fused),
                                put: put.max(effort.put),
                            };
                            live.still = Duration::ZERO;
                            self.moves(*worker);
                        }
                    } else if self.closers.get(&task) != Some(&(*worker, epoch)) {
                        out.push(Action::Revoke { worker: *worker, task, epoch });
                    }
                }
            }
            Event::PieceDone { worker, task, epoch, piece, receipt } => {
                self.hear(*worker);
                self.report(*worker, *task, *epoch, *piece, receipt, out);
            }
            Event::Persisted { task, piece } => {
                let at = (*task, *piece);
                if self.accepted.contains_key(&at) && self.persisted.insert(at) {
                    let waiting = self.unacked.remove(&at).unwrap_or_default();
                    let ack = |(worker, epoch)| Action::Ack { worker, task: *task, epoch, piece: *piece };
                    out.extend(waiting.into_iter().map(ack));
                    if self.is_done(*task) {
                        out.push(Action::TaskDone { task: *task });
                    }
                }
            }
            Event::TaskFailed { worker, task, epoch, kind, message } => {
                self.hear(*worker);
                if self.attempt(*worker, *task, *epoch).is_none() {
                    self.stale += 1;
                    return;
                }
                self.fail(*worker, *task, *epoch, *kind, message, out);
            }
            Event::Draining { worker } => {
                self.hear(*worker);
                if let Some(seat) = self.seats.get_mut(worker).filter(|seat| !seat.left) {
                    seat.draining = true;
                }
            }
            Event::Left { worker } => {
                if let Some(seat) = self.seats.get_mut(worker) {
                    (seat.here, seat.left) = (false, true);
                }
                for (task, epoch) in self.running(*worker) {
                    self.end(task, epoch, false, false, out);
                }
            }
            Event::Tick => {
                self.expire(out);
                if !self.ended {
                    self.stall(out);
                }
            }
            Event::Cancel => self.abort(AbortReason::Cancelled, out),
        }
    }

    /// An attempt of a worker went on.
    fn moves(&mut self, worker: WorkerId) {
        let now = self.now;
        let seat = self.seats.get_mut(&worker).expect("it has a live attempt");
        (seat.moved, seat.benched) = (Some(now), None);
    }

    /// A sign of life of a worker that is there.
    fn hear(&mut self, worker: WorkerId) {
        if let Some(seat) = self.seats.get_mut(&worker).filter(|seat| seat.here) {
            seat.seen = self.now;
        }
    }

    fn report(
        &mut self,
        worker: WorkerId,
        task: TaskId,
        epoch: Epoch,
        piece: Piece,
        receipt: &Receipt,
        out: &mut Vec<Action>,
    ) {
        let deadline = self.now + self.limits.lease;
        if let Some(live) = self.attempt(worker, task, epoch) {
            live.deadline = deadline;
            if live.open.remove(&piece) {
                live.still = Duration::ZERO;
                self.moves(worker);
            }
        } else if self.closers.get(&task) != Some(&(worker, epoch)) {
            self.stale += 1;
            out.push(Action::Revoke { worker, task, epoch });
            return;
        }
        if !self.specs[task.0 as usize].pieces.contains(&piece) {
            return;
        }
        let at = (task, piece);
        let known = self.accepted.contains_key(&at);
        if known {
            self.duplicates += 1;
        } else {
            self.accepted.insert(at, receipt.clone());
            out.push(Action::Persist { task, piece, epoch, receipt: receipt.clone() });
        }
        if self.persisted.contains(&at) {
            out.push(Action::Ack { worker, task, epoch, piece });
            return;
        }
        self.unacked.entry(at).or_default().insert((worker, epoch));
        if self.missing(task).is_empty() {
            for live in self.live.remove(&task).unwrap_or_default() {
                if live.worker == worker && live.epoch == epoch && live.open.is_empty() {
                    self.closers.insert(task, (worker, epoch));
                    self.paces.push((self.now - live.started) / live.given);
                    let seat = self.seats.get_mut(&worker).expect("it has a live attempt");
                    (seat.strikes, seat.stalls) = (0, 0);
                } else {
                    out.push(Action::Revoke { worker: live.worker, task, epoch: live.epoch });
                }
            }
        }
    }

    fn fail(
        &mut self,
        worker: WorkerId,
        task: TaskId,
        epoch: Epoch,
        kind: ErrorKind,
        message: &str,
        out: &mut Vec<Action>,
    ) {
        let message = message.to_owned();
        match kind {
            ErrorKind::Permanent => {
                self.live.entry(task).or_default().retain(|live| live.epoch != epoch);
                self.abort(AbortReason::Permanent { task, worker, message }, out);
            }
            ErrorKind::WorkerLocal => {
                let seat = self.seats.get_mut(&worker).expect("it has a live attempt");
                seat.strikes += 1;
                if seat.strikes >= self.limits.worker_strikes && !seat.quarantined {
                    seat.quarantined = true;
                    out.push(Action::Quarantine { worker, strikes: seat.strikes, message });
                }
                self.end(task, epoch, false, true, out);
            }
            ErrorKind::Transient => self.end(task, epoch, true, true, out),
            ErrorKind::Stale => self.end(task, epoch, false, true, out),
        }
    }

    fn expire(&mut self, out: &mut Vec<Action>) {
        let lease = self.limits.lease;
        let workers: Vec<_> = self.seats.keys().copied().collect();
        for worker in workers {
            let seat = self.seats.get_mut(&worker).expect("a key");
            if self.ended || !seat.here || seat.seen + lease > self.now {
                continue;
            }
            seat.here = false;
            out.push(Action::WorkerLost { worker });
            for (task, epoch) in self.running(worker) {
                self.run_out(worker, task, epoch, out);
            }
        }
        let live: Vec<_> =
            self.live.iter().flat_map(|(task, all)| all.iter().map(|live| (*task, live.clone()))).collect();
        for (task, live) in live {
            if live.deadline <= self.now {
                self.run_out(live.worker, task, live.epoch, out);
            }
        }
    }

    fn stall(&mut self, out: &mut Vec<Action>) {
        let Limits { lease, still_leases, .. } = self.limits;
        let timeout = lease * still_leases;
        let passed = (self.now - self.ticked).min(lease);
        self.ticked = self.now;
        let now = self.now;
        let nobody_is_willing = !self.seats.values().any(Seat::is_willing);
        for seat in self.seats.values_mut() {
            seat.benched = seat.benched.filter(|until| *until > now && !nobody_is_willing);
        }
        let witnesses: Vec<WorkerId> = self
            .seats
            .iter()
            .filter(|(worker, seat)| {
                let moves = seat.here && seat.moved.is_some_and(|moved| now < moved + lease);
                moves || seat.is_willing() && self.running(**worker).is_empty()
            })
            .map(|(worker, _)| *worker)
            .collect();
        let mut over = Vec::new();
        for (task, all) in &mut self.live {
            for live in all {
                if witnesses.iter().any(|other| *other != live.worker) {
                    live.still += passed;
                }
                if live.still >= timeout {
                    over.push((*task, live.epoch, live.worker));
                }
            }
        }
        for (task, epoch, worker) in &over {
            if !self.ended && self.attempt(*worker, *task, *epoch).is_some() {
                self.stalled += 1;
                out.push(Action::Revoke { worker: *worker, task: *task, epoch: *epoch });
                self.end(*task, *epoch, false, false, out);
            }
        }
        let idlers: BTreeSet<WorkerId> = over.iter().map(|(.., worker)| *worker).collect();
        for worker in idlers {
            let seat = self.seats.get_mut(&worker).expect("it had a live attempt");
            seat.stalls += 1;
            seat.benched = Some(now + timeout * 2_u32.pow((seat.stalls - 1).min(6)));
            out.push(Action::Stalled { worker });
        }
    }

    fn run_out(&mut self, worker: WorkerId, task: TaskId, epoch: Epoch, out: &mut Vec<Action>) {
        if !self.ended && self.attempt(worker, task, epoch).is_some() {
            self.expired += 1;
            out.push(Action::Revoke { worker, task, epoch });
            self.end(task, epoch, true, false, out);
        }
    }

    /// Ends an attempt; the task is in backoff if it failed (`backs_off`), and the merge ends if the limits say so.
    fn end(&mut self, task: TaskId, epoch: Epoch, counts: bool, backs_off: bool, out: &mut Vec<Action>) {
        if self.ended {
            return;
        }
        let live = self.live.entry(task).or_default();
        live.retain(|live| live.epoch != epoch);
        let none_left = live.is_empty();
        let failures = self.failures.entry(task).or_default();
        *failures += u32::from(counts);
        let (failures, attempts) = (*failures, self.begun[&task]);
        if !none_left {
            return;
        }
        if failures >= self.limits.max_attempts || attempts >= self.limits.attempt_cap {
            self.abort(AbortReason::Exhausted { task, failures, attempts, message: String::new() }, out);
        } else if backs_off {
            let backoff =
                (0..attempts - 1).fold(self.limits.retry_delay, |backoff, _| (backoff * 2).min(self.limits.lease));
            self.backoffs.insert(task, self.now + backoff.min(self.limits.lease));
        }
    }

    fn abort(&mut self, reason: AbortReason, out: &mut Vec<Action>) {
        self.ended = true;
        for (task, live) in std::mem::take(&mut self.live) {
            out.extend(live.iter().map(|live| Action::Revoke { worker: live.worker, task, epoch: live.epoch }));
        }
        out.push(Action::Abort { reason });
    }

    pub(super) fn answer_late(&mut self, event: &Event, out: &mut Vec<Action>) {
        match event {
            Event::Heartbeat { worker, running } => {
                out.extend(running.iter().map(|&(task, epoch, _)| Action::Revoke { worker: *worker, task, epoch }));
            }
            Event::PieceDone { worker, task, epoch, .. } => {
                self.stale += 1;
                out.push(Action::Revoke { worker: *worker, task: *task, epoch: *epoch });
            }
            Event::TaskFailed { .. } => self.stale += 1,
            _ => {}
        }
    }
}
