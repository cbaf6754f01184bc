//! Shares the slots when something has changed, and sends the result to the schedules.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;
use tracing::info;

use super::actor::Hub;
use super::clock::clock;
use super::merges::{Phase, Waiting};
use super::share;
use super::worker::able_classes;
use crate::device::Device;
use crate::driver::{Input, Mailbox};
use crate::happening::Happening;
use crate::schedule::WorkerId;

/// How long a merge is without a worker before that is said.
const SAID_AFTER: Duration = Duration::from_secs(2);

impl Hub {
    /// Shares the slots between the merges, and sends each driver its changes.
    pub(super) fn share_slots(&mut self) {
        let (now, lease) = (Instant::now(), self.options.limits.lease);
        let workers: Vec<share::WorkerSlots> = self
            .workers
            .iter()
            .map(|(id, w)| share::WorkerSlots {
                id: *id,
                class: w.class.clone(),
                slots: w.slots,
                able: w.is_able(now, lease),
            })
            .collect();
        let mut merges = Vec::new();
        let mut mailboxes: BTreeMap<u64, Mailbox> = BTreeMap::new();
        for merge in self.merges.values() {
            let Some(running) = merge.running() else { continue };
            mailboxes.insert(merge.arrival, running.mailbox.clone());
            let progress = running.progress.borrow();
            merges.push(share::MergeDemand {
                arrival: merge.arrival,
                class: running.class.clone(),
                priority: merge.record.priority,
                demand: progress.demand,
                barred: running.barred.union(&progress.benched).copied().collect(),
            });
        }
        let shares = share::share(&workers, &merges, &self.shares);
        let before = std::mem::replace(&mut self.shares, shares);
        let all: BTreeSet<(u64, WorkerId)> = before.keys().chain(self.shares.keys()).copied().collect();
        let changed = all.into_iter().filter(|key| before.get(key) != self.shares.get(key));
        for (arrival, worker) in changed {
            let slots = self.shares.get(&(arrival, worker)).copied().unwrap_or(0);
            if let Some(mailbox) = mailboxes.get(&arrival) {
                // A driver that has ended needs no slots. Slots alone never exceed what may wait.
                let _ = mailbox.send(Input::Slots { worker, slots });
            }
        }
    }

    /// Notes which merges wait for a worker, and says so once.
    pub(super) fn note_waiting(&mut self, now: Instant) {
        let lease = self.options.limits.lease;
        let able = able_classes(&self.workers, now, lease);
        for (id, merge) in &mut self.merges {
            let wants = match &merge.phase {
                Phase::Queued if merge.record.device.parse() == Ok(Device::Cuda) => {
                    (!able.iter().any(|class| Device::Cuda.has(class))).then(|| "device cuda".to_owned())
                }
                Phase::Active(active) => {
                    let class = active.running.as_ref().filter(|_| !active.publishing).map(|r| &r.class);
                    class.filter(|class| !able.contains(class)).map(|class| format!("device class {class}"))
                }
                Phase::Queued | Phase::Held | Phase::Ended(_) => None,
            };
            let Some(wants) = wants else {
                if merge.waiting.take().is_some_and(|waiting| waiting.said) {
                    merge.happenings.add(Happening::step(clock(), "a worker is there: it goes on"));
                }
                continue;
            };
            let remark = format!("waiting for a worker of {wants}");
            let waiting = merge.waiting.get_or_insert(Waiting { since: now, remark, said: false });
            if !waiting.said && now.saturating_duration_since(waiting.since) >= SAID_AFTER {
                waiting.said = true;
                info!(merge = %id, "{}", waiting.remark);
                merge.happenings.add(Happening::step(clock(), waiting.remark.clone()));
            }
        }
    }
}
