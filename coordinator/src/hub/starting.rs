//! Merges are taken on, queued, and begun.

use std::cmp::Reverse;

use shardfuse_merge::spec::MergeSpec;
use shardfuse_merge::{DeviceClass, Error, Kind, Result};
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;
use tracing::info;

use super::actor::Hub;
use super::clock::clock;
use super::command::{Follower, Submission};
use super::lifecycle::Job;
use super::merges::{Active, Merge, Phase};
use super::report::{Halt, Tell};
use super::saving::Waiter;
use super::view::View;
use super::worker::able_classes;
use crate::device::Device;
use crate::happening::Happening;
use crate::owner::Owner;
use crate::registry::{MAX_SPEC, MergeId, Outcome, Record};

/// The worker that makes a part, and another one that computes it again.
const LEAST_TO_VERIFY: u32 = 2;

impl Hub {
    pub(super) fn submit(
        &mut self,
        submission: Submission,
        follower: Option<Follower>,
        reply: oneshot::Sender<Result<(View, bool)>>,
    ) {
        match self.take_on(submission) {
            Ok((id, known, queued)) => {
                self.let_follow(&id, follower);
                let waiter = Waiter::Submitted { known, reply };
                if queued { self.save(&id, Some(waiter)) } else { self.once_written(&id, waiter) }
            }
            // The caller may have stopped waiting.
            Err(e) => _ = reply.send(Err(e)),
        }
    }

    fn let_follow(&mut self, id: &MergeId, follower: Option<Follower>) {
        let (Some(merge), Some(follower)) = (self.merges.get_mut(id), follower) else { return };
        match merge.has_ended() {
            // It was done before and is not begun again.
            true => drop(follower.ended.send(Ok(None))),
            false => merge.follower = Some(follower),
        }
    }

    /// Queues a merge, unless it is done or on its way. Says whether it was known, and whether it was queued.
    pub(super) fn take_on(&mut self, submission: Submission) -> Result<(MergeId, bool, bool)> {
        self.refuse_if_stopping()?;
        if !self.options.alone {
            refuse_large(&submission.spec)?;
        }
        let verify_parts = submission.verify_parts.unwrap_or(self.options.verify_parts);
        refuse_unverifiable(verify_parts, self.options.workers)?;
        let id = MergeId::of(&submission.spec);
        let known = self.merges.get(&id);
        let as_it_is = known.is_some_and(|merge| match &merge.phase {
            // Its inputs may have changed since: with `force` they are looked at, and the same again ends at once.
            Phase::Ended(ended) => ended.outcome == Outcome::Done && !submission.restart && !submission.force,
            Phase::Queued | Phase::Held | Phase::Active(_) => true,
        });
        if as_it_is {
            return Ok((id, true, false));
        }
        let known = known.is_some();
        let on_their_way = || self.merges.iter().filter(|(_, m)| !m.has_ended());
        if let Some((other, _)) = on_their_way().find(|(_, m)| m.record.spec.output == submission.spec.output) {
            let output = &submission.spec.output;
            return Err(Error::new(Kind::OutputBusy, format!("{output} is the output of merge {other}"))
                .hint("wait until it has ended, or cancel it"));
        }
        let queued = self.merges.values().filter(|m| matches!(m.phase, Phase::Queued)).count();
        if queued >= self.options.max_queued {
            let most = self.options.max_queued;
            metrics::counter!("shardfuse_submissions_busy_total").increment(1);
            return Err(Error::new(
                Kind::Busy,
                format!("{queued} merges wait for their turn, and the coordinator takes no more than {most}"),
            )
            .hint("submit it again later (with --wait, submit does that by itself), or start the coordinator with a higher --max-queued"));
        }
        let device = submission.device.unwrap_or(self.options.device).to_string();
        let mut record = Record::new(submission.spec, &device, submission.priority, clock());
        (record.restart, record.force) = (submission.restart, submission.force);
        record.allow_no_change = submission.allow_no_change;
        record.verify_parts = verify_parts;
        let arrival = self.next();
        info!(merge = %id, output = record.spec.output, adapters = record.spec.lora.len(), priority = record.priority, "submitted");
        match self.merges.get_mut(&id) {
            Some(merge) => {
                merge.queue(record, arrival);
                merge.refresh();
            }
            None => _ = self.merges.insert(id.clone(), Merge::new(&id, record, arrival)),
        }
        if let Some(merge) = self.merges.get_mut(&id) {
            let what = if known { "submitted again" } else { "submitted" };
            merge.happenings.add(Happening::step(clock(), what));
        }
        Ok((id, known, true))
    }

    /// Begins queued merges as long as there is room, those of a higher priority first.
    pub(super) fn start_queued(&mut self) {
        if self.stopping.is_some() {
            return;
        }
        let now = Instant::now();
        let able = able_classes(&self.workers, now, self.options.limits.lease);
        // One that has no workers for a while gives its place to those that have.
        let placed = self.merges.values().filter(|m| m.takes_a_place());
        let (stuck, served): (Vec<&Merge>, Vec<&Merge>) =
            placed.partition(|m| m.waiting.as_ref().is_some_and(|waiting| waiting.said));
        let (stuck, mut active) = (stuck.len(), served.len());
        // One that is cancelled gives its place away at once; while it hangs in a store it still takes memory.
        let all = self.merges.values().filter(|m| matches!(m.phase, Phase::Active(_))).count();
        let mut room = (2 * self.options.max_active).saturating_sub(all);
        let mut suspect_planned = self.merges.values().any(|m| m.is_suspect() && m.is_planned_alone(now));
        let ready = |m: &Merge| matches!(m.phase, Phase::Queued) && m.saving.is_written();
        let mut queued: Vec<(Reverse<i32>, u64, MergeId, bool)> = self
            .merges
            .iter()
            .filter(|(_, m)| ready(m))
            .map(|(id, m)| (Reverse(m.record.priority), m.arrival, id.clone(), m.is_suspect()))
            .collect();
        queued.sort();
        let mut begin = Vec::new();
        for (_, _, id, suspect) in queued {
            if active >= self.options.max_active || room == 0 {
                break;
            }
            if suspect && suspect_planned {
                continue;
            }
            let Some(class) = self.first_class(&id) else { continue };
            if active + stuck < self.options.max_active || able.contains(&class) {
                begin.push((id, class));
                active += 1;
                room -= 1;
                suspect_planned |= suspect;
            }
        }
        for (id, class) in begin {
            self.begin(&id, class);
        }
    }

    /// The class of the first worker that has a merge's device; `None` while there is none.
    pub(super) fn first_class(&self, id: &MergeId) -> Option<DeviceClass> {
        let record = &self.merges.get(id)?.record;
        if record.cancel.is_some() || record.device.parse() == Ok(Device::Cpu) {
            return Some(DeviceClass::Cpu);
        }
        let with = self.workers.values().filter(|w| Device::Cuda.has(&w.class));
        let first = with.filter_map(|w| w.session.as_ref().map(|s| (s.number, &w.class))).min();
        first.map(|(_, class)| class.clone())
    }

    fn begin(&mut self, id: &MergeId, first_class: DeviceClass) {
        let run = self.next();
        let Some(merge) = self.merges.get_mut(id) else { return };
        merge.run = run;
        merge.waiting = None;
        let now = clock();
        merge.record.began.get_or_insert(now);
        merge.happenings.add(Happening::step(now, "headers are read and the merge is planned"));
        let (noted, marked) = oneshot::channel();
        let mark = merge.record.cancel.is_none();
        let halt = watch::Sender::new(merge.record.cancel.map(|discard| Halt::Cancel { discard }));
        let job = Job {
            owner: Owner::default(),
            stores: self.stores.clone(),
            options: self.options.clone(),
            kept: self.registry.as_ref().map(|registry| registry.state().clone()),
            spec: merge.record.spec.clone(),
            restart: merge.record.restart,
            force: merge.record.force,
            allow_no_change: merge.record.allow_no_change,
            verify_parts: merge.record.verify_parts,
            device: merge.record.device.parse().unwrap_or_default(),
            first_class,
            marked: mark.then_some(marked),
            halt: halt.subscribe(),
            tell: Tell { merge: id.clone(), run, to: self.reports.clone(), ended: false },
        };
        let since = Instant::now();
        merge.phase = Phase::Active(Box::new(Active { halt, since, running: None, publishing: false }));
        merge.refresh();
        self.tasks.spawn(job.run());
        if mark {
            merge.record.planning = Some(now);
            self.save(id, Some(Waiter::Noted(noted)));
        }
    }
}

/// Refuses to verify parts where it is known that no other worker joins to compute them.
fn refuse_unverifiable(share: f64, workers: Option<u32>) -> Result<()> {
    match workers {
        Some(workers) if share > 0.0 && workers < LEAST_TO_VERIFY => Err(Error::new(
            Kind::Usage,
            format!("--verify-parts {share} needs at least {LEAST_TO_VERIFY} workers, and this merge has {workers}"),
        )
        .hint(
            "leave --verify-parts out, or give the merge more workers: a job with more pods, or shardfuse coordinator",
        )),
        _ => Ok(()),
    }
}

/// A spec whose record and messages would be out of proportion.
fn refuse_large(spec: &MergeSpec) -> Result<()> {
    let bytes = serde_json::to_vec(spec).map_or(usize::MAX, |json| json.len());
    if bytes <= MAX_SPEC {
        return Ok(());
    }
    Err(Error::new(Kind::Usage, format!("the merge spec has {bytes} bytes as JSON, at most {MAX_SPEC} are taken"))
        .hint("name fewer adapters in one merge, or shorter addresses"))
}
