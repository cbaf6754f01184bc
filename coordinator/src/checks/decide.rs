//! What follows from the digests.

use std::collections::BTreeSet;

use super::{Action, CheckId, Checks, Digest, MOST_FAILURES, Undecidable, Verdict};
use crate::schedule::{Epoch, WorkerId};

impl Checks {
    pub(super) fn made(&mut self, worker: WorkerId, id: CheckId, epoch: Epoch, digest: Digest, out: &mut Vec<Action>) {
        if !self.is_live(worker, id, epoch) {
            out.push(Action::Revoke { worker, check: id, epoch });
            return;
        }
        self.release(id);
        out.push(Action::Ack { worker, check: id, epoch });
        self.checks[id.0 as usize].votes.push((Some(worker), digest));
        self.decide(id, out);
    }

    /// Settles a check if two have the same digest; leaves it open for a third if not.
    fn decide(&mut self, id: CheckId, out: &mut Vec<Action>) {
        let check = &mut self.checks[id.0 as usize];
        let votes = &check.votes;
        let right = votes.iter().map(|(_, digest)| *digest).find(|d| votes.iter().filter(|(_, o)| o == d).count() > 1);
        let Some(right) = right else {
            if votes.len() > 2 {
                let had = votes.clone();
                self.end(Verdict::Undecided { check: id, had, why: Undecidable::Disagreement }, out);
            } else {
                self.open.insert(id);
            }
            return;
        };
        let alone: Vec<Option<WorkerId>> = votes.iter().filter(|(_, d)| *d != right).map(|(who, _)| *who).collect();
        check.agreed = check.part.digest == right;
        for worker in alone.into_iter().flatten() {
            self.is_odd(worker, id, out);
        }
    }

    /// A worker was alone with a digest: it gets nothing more, and what it said about open checks does not count.
    fn is_odd(&mut self, worker: WorkerId, on: CheckId, out: &mut Vec<Action>) {
        if !self.odd.insert(worker) {
            return;
        }
        self.change(worker, |seat| seat.barred = true);
        out.push(Action::Odd { worker, check: on });
        self.give_back(worker, out);
        for id in self.open.iter().chain(&self.live).copied().collect::<Vec<_>>() {
            let check = &mut self.checks[id.0 as usize];
            if check.part.maker == Some(worker) {
                // It is lost, whatever would come out.
                self.open.remove(&id);
                if let Some(live) = self.release(id) {
                    out.push(Action::Revoke { worker: live.worker, check: id, epoch: live.epoch });
                }
            } else {
                check.votes.retain(|(voter, _)| *voter != Some(worker));
            }
        }
    }

    /// Ends when everything is settled.
    pub(super) fn finish(&mut self, out: &mut Vec<Action>) {
        if self.ended || !self.open.is_empty() || !self.live.is_empty() {
            return;
        }
        let agreed: BTreeSet<_> =
            self.checks.iter().filter(|c| c.agreed).map(|c| (c.part.task, c.part.piece)).collect();
        let made_by_odd = |maker: Option<WorkerId>| maker.is_some_and(|maker| self.odd.contains(&maker));
        let of_odd = self.parts.iter().filter(|part| made_by_odd(part.maker)).map(|part| (part.task, part.piece));
        let checked = self.checks.iter().map(|check| (check.part.task, check.part.piece));
        let parts: BTreeSet<_> = of_odd.chain(checked).filter(|at| !agreed.contains(at)).collect();
        let verdict = match parts.is_empty() {
            true => Verdict::Sound { checked: self.checks.len() },
            false => Verdict::Lost { parts, odd: self.odd.clone() },
        };
        self.end(verdict, out);
    }

    /// Ends if a check failed too often, or nobody was there for long who may do one.
    pub(super) fn look_for_somebody(&mut self, out: &mut Vec<Action>) {
        let too_often = self.open.iter().copied().find(|id| self.checks[id.0 as usize].failures >= MOST_FAILURES);
        if let Some(id) = too_often {
            let last_failure = self.last_failure(id);
            return self.give_up(id, Undecidable::Failures { times: MOST_FAILURES, last_failure }, out);
        }
        let may = |id: &CheckId| {
            let check = &self.checks[id.0 as usize];
            self.seats.iter().any(|(worker, seat)| seat.may_work() && check.may(*worker))
        };
        let Some(id) = self.open.iter().copied().find(|id| !may(id)) else {
            self.lonely = None;
            return;
        };
        let since = *self.lonely.get_or_insert(self.now);
        if self.now.saturating_sub(since) >= self.timeout {
            let connected = self.seats.values().filter(|seat| seat.here).count();
            let last_failure = self.last_failure(id);
            self.give_up(id, Undecidable::NoOtherWorker { connected, last_failure }, out);
        }
    }

    fn last_failure(&self, check: CheckId) -> String {
        self.checks[check.0 as usize].last_failure.clone()
    }

    fn give_up(&mut self, check: CheckId, why: Undecidable, out: &mut Vec<Action>) {
        let had = self.checks[check.0 as usize].votes.clone();
        self.end(Verdict::Undecided { check, had, why }, out);
    }

    fn end(&mut self, verdict: Verdict, out: &mut Vec<Action>) {
        self.ended = true;
        for id in self.live.clone() {
            if let Some(live) = self.release(id) {
                out.push(Action::Revoke { worker: live.worker, check: id, epoch: live.epoch });
            }
        }
        out.push(Action::End(verdict));
    }
}
