//! Shares the workers' slots between the merges.
//!
//! A pure function of the workers, the merges, and the shares before. A worker serves one device class, so the slots of each
//! class are shared separately:
//!
//! 1. *How many* slots a merge gets: higher priorities come first. Merges of one priority get equal shares, to within one slot,
//!    but none gets more than it could use now. Slots that no merge could use go to the first priority in equal shares: it may
//!    find use for them before the slots are shared again, and second attempts at slow tasks run on them.
//! 2. *Which* slots: a merge keeps the slots that it had, up to its claim. More slots come first from workers that serve no
//!    merge yet, since a worker that serves one merge reads that merge's factors once.
//! 3. If a merge may not use a worker (it was quarantined there), its claim can stay unmet. The free slots then go to merges
//!    with demand left, even beyond their claims.
//!
//! A merge that loses slots finishes what runs on them. Until then a worker can run more tasks than it has slots; its memory
//! budget bounds them.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::schedule::WorkerId;
use shardfuse_merge::DeviceClass;

/// A worker with the slots that are shared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkerSlots {
    /// Its number.
    pub id: WorkerId,
    /// The class whose bits it computes.
    pub class: DeviceClass,
    /// Tasks that it takes at a time.
    pub slots: u32,
    /// Whether it is there and takes new tasks.
    pub able: bool,
}

/// A running merge with what it could use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeDemand {
    /// Its number; of two merges the one that arrived first has the lower.
    pub arrival: u64,
    /// The class that it needs.
    pub class: DeviceClass,
    /// Higher goes first.
    pub priority: i32,
    /// Slots that it could use now.
    pub demand: u32,
    /// Workers that get nothing of it: they were quarantined for it, or let its tasks stand still.
    pub barred: BTreeSet<WorkerId>,
}

/// Slots by merge and worker; what is not there is zero.
pub type Shares = BTreeMap<(u64, WorkerId), u32>;

/// Shares the slots.
pub fn share(workers: &[WorkerSlots], merges: &[MergeDemand], before: &Shares) -> Shares {
    let classes: BTreeSet<&DeviceClass> = merges.iter().map(|m| &m.class).collect();
    let mut shares = Shares::new();
    for class in classes {
        let mut merges: Vec<&MergeDemand> = merges.iter().filter(|m| &m.class == class).collect();
        merges.sort_by_key(|m| (Reverse(m.priority), m.arrival));
        let pool = workers.iter().filter(|w| w.able && w.slots > 0 && &w.class == class);
        Pool::new(pool, &merges).assign(before, &mut shares);
    }
    shares
}

/// One device class while its slots are shared.
struct Pool<'a> {
    /// By priority, then arrival.
    merges: &'a [&'a MergeDemand],
    slots: BTreeMap<WorkerId, u32>,
    free: BTreeMap<WorkerId, u32>,
    /// What each merge is still to get.
    claims: Vec<u64>,
    got: Vec<u64>,
}

impl<'a> Pool<'a> {
    fn new(pool: impl Iterator<Item = &'a WorkerSlots>, merges: &'a [&'a MergeDemand]) -> Self {
        let slots: BTreeMap<WorkerId, u32> = pool.map(|w| (w.id, w.slots)).collect();
        let total = slots.values().map(|s| u64::from(*s)).sum();
        Pool { claims: claims(merges, total), got: vec![0; merges.len()], free: slots.clone(), slots, merges }
    }

    fn assign(mut self, before: &Shares, shares: &mut Shares) {
        for (m, merge) in self.merges.iter().enumerate() {
            let range = (merge.arrival, WorkerId(0))..=(merge.arrival, WorkerId(u64::MAX));
            let mut had: Vec<(WorkerId, u32)> = before.range(range).map(|((_, w), n)| (*w, *n)).collect();
            had.sort_by_key(|(w, n)| (self.slots.get(w) != Some(n), *w));
            for (worker, n) in had {
                self.give(m, worker, n, shares);
            }
        }
        for (m, merge) in self.merges.iter().enumerate() {
            let mine = |w: WorkerId| shares.contains_key(&(merge.arrival, w));
            let mut open: Vec<(WorkerId, u32)> = self.free.iter().map(|(w, n)| (*w, *n)).collect();
            open.sort_by_key(|(w, n)| (Reverse(*n), *w));
            let (whole, split): (Vec<_>, Vec<_>) = open.into_iter().partition(|(w, n)| self.slots[w] == *n);
            let mut split: Vec<_> = split.into_iter().map(|(w, n)| (!mine(w), Reverse(n), w)).collect();
            split.sort_unstable();
            for &(worker, n) in whole.iter().filter(|(_, n)| *n > 0) {
                if u64::from(n) <= self.claims[m] {
                    self.give(m, worker, n, shares);
                }
            }
            let rest = split.into_iter().map(|(_, n, w)| (w, n.0));
            for (worker, n) in rest.chain(whole.into_iter().rev()) {
                self.give(m, worker, n, shares);
            }
        }
        self.leftovers(shares);
    }

    /// Gives up to `n` slots of a worker to a merge that still has a claim.
    fn give(&mut self, m: usize, worker: WorkerId, n: u32, shares: &mut Shares) {
        let merge = self.merges[m];
        let Some(free) = self.free.get_mut(&worker) else { return };
        let claim = u32::try_from(self.claims[m]).unwrap_or(u32::MAX);
        let n = n.min(*free).min(claim);
        if n == 0 || merge.barred.contains(&worker) {
            return;
        }
        *free -= n;
        self.claims[m] -= u64::from(n);
        self.got[m] += u64::from(n);
        *shares.entry((merge.arrival, worker)).or_default() += n;
    }

    fn leftovers(&mut self, shares: &mut Shares) {
        let open: Vec<(WorkerId, u32)> = self.free.iter().filter(|(_, n)| **n > 0).map(|(w, n)| (*w, *n)).collect();
        for (worker, n) in open {
            for m in 0..self.merges.len() {
                self.claims[m] = u64::from(self.merges[m].demand).saturating_sub(self.got[m]);
                self.give(m, worker, n, shares);
            }
        }
    }
}

/// How many slots each merge has a claim to.
fn claims(merges: &[&MergeDemand], total: u64) -> Vec<u64> {
    let mut claims = Vec::with_capacity(merges.len());
    let mut left = total;
    for group in merges.chunk_by(|a, b| a.priority == b.priority) {
        let demands: Vec<u64> = group.iter().map(|m| u64::from(m.demand)).collect();
        let got = evenly(&demands, left);
        left -= got.iter().sum::<u64>();
        claims.extend(got);
    }
    let first = merges.iter().take_while(|m| m.priority == merges[0].priority).count();
    for (claim, spare) in claims.iter_mut().zip(evenly(&vec![u64::MAX; first], left)) {
        *claim += spare;
    }
    claims
}

/// Splits `total` evenly, nobody above its limit; what does not split goes to the first ones.
fn evenly(limits: &[u64], total: u64) -> Vec<u64> {
    let at = |level: u64| limits.iter().fold(0u64, |sum, limit| sum.saturating_add(level.min(*limit)));
    let (mut low, mut high) = (0, total);
    while low < high {
        let level = low + (high - low).div_ceil(2);
        if at(level) <= total { low = level } else { high = level - 1 }
    }
    let mut got: Vec<u64> = limits.iter().map(|limit| low.min(*limit)).collect();
    let mut rest = total - got.iter().sum::<u64>();
    for (got, limit) in got.iter_mut().zip(limits) {
        if rest > 0 && *got < *limit {
            *got += 1;
            rest -= 1;
        }
    }
    got
}
