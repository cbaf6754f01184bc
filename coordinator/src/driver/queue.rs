//! What waits for a driver, and how much of it may wait.
//!
//! A sender never waits for a driver: one hub serves all merges, and a slow merge must not stop the others. So the queue
//! takes everything at once, and is bounded in another way:
//!
//! | input | what may wait |
//! |---|---|
//! | slots, heartbeat | one for each worker: a newer one replaces the one before |
//! | join, leave, report | [`Limits`] for each worker, and for all of them together |
//! | questions for the layer set | a few; the driver's silence answers the others |
//! | journaled pieces, uploads that were looked for, cancel | as many as the driver itself has asked for |
//!
//! A worker keeps at most 32 MiB of reports that are not acknowledged, so one that works as ours do stays within its limit.
//! What exceeds the limit is not cut short in silence. Everything that waits from this worker is replaced by its leave, and
//! the sender learns it. The driver then ends the worker's attempts, as for any worker that leaves. The hub closes the
//! worker's session, and the worker reports again in the next one what was not acknowledged.

use std::collections::BTreeMap;

use super::input::Input;
use crate::schedule::WorkerId;

/// How many questions for the layer set may wait.
const LAYERS: usize = 64;
/// What an input takes beside its message, about.
const BASE: usize = 512;

/// How many bytes may wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// From one worker.
    pub(super) worker: usize,
    /// From all workers.
    pub(super) all: usize,
}

impl Limits {
    /// Of one worker twice what it keeps unacknowledged.
    pub(super) const OURS: Limits = Limits { worker: 64 << 20, all: 512 << 20 };
}

/// More waits from this worker than may: all of it was dropped, and its leave waits in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Overrun;

/// The inputs that wait, in their order.
#[derive(Debug)]
pub(super) struct Queue {
    limits: Limits,
    next: u64,
    inputs: BTreeMap<u64, Entry>,
    workers: BTreeMap<WorkerId, Waiting>,
    bytes: usize,
    layers: usize,
}

#[derive(Debug)]
struct Entry {
    input: Input,
    bytes: usize,
}

/// What waits from one worker.
#[derive(Debug, Default)]
struct Waiting {
    inputs: usize,
    bytes: usize,
    /// Its heartbeat.
    beat: Option<u64>,
    /// The last of its joins, leaves and slots.
    presence: Option<u64>,
}

impl Queue {
    pub(super) fn new(limits: Limits) -> Queue {
        Queue { limits, next: 0, inputs: BTreeMap::new(), workers: BTreeMap::new(), bytes: 0, layers: 0 }
    }

    /// Takes an input in.
    pub(super) fn push(&mut self, input: Input) -> Result<(), Overrun> {
        if let Input::Layers(_) = input {
            if self.layers < LAYERS {
                self.layers += 1;
                self.append(input, 0);
            }
            return Ok(());
        }
        let Some(worker) = input.worker() else {
            self.append(input, 0);
            return Ok(());
        };
        match input {
            Input::Slots { slots, .. } if self.replace_slots(worker, slots) => return Ok(()),
            Input::Beat { .. } => {
                if let Some(earlier) = self.workers.get(&worker).and_then(|waiting| waiting.beat) {
                    self.take(earlier);
                }
            }
            _ => {}
        }
        let bytes = size(&input);
        let of_worker = self.workers.get(&worker).map_or(0, |waiting| waiting.bytes);
        let too_much = of_worker + bytes > self.limits.worker || self.bytes + bytes > self.limits.all;
        if bytes > 0 && too_much {
            self.drop_all(worker);
            self.append(Input::Left { worker }, BASE);
            return Err(Overrun);
        }
        self.append(input, bytes);
        Ok(())
    }

    /// The input that came first.
    pub(super) fn pop(&mut self) -> Option<Input> {
        let first = *self.inputs.first_key_value()?.0;
        self.take(first)
    }

    /// Whether a join or an earlier number of slots waits, in which the new number can stand.
    fn replace_slots(&mut self, worker: WorkerId, now: u32) -> bool {
        let last = self.workers.get(&worker).and_then(|waiting| waiting.presence);
        match last.and_then(|at| self.inputs.get_mut(&at)).map(|entry| &mut entry.input) {
            Some(Input::Joined { slots, .. } | Input::Slots { slots, .. }) => {
                *slots = now;
                true
            }
            _ => false,
        }
    }

    fn append(&mut self, input: Input, bytes: usize) {
        let at = self.next;
        self.next += 1;
        if let Some(worker) = input.worker() {
            let waiting = self.workers.entry(worker).or_default();
            waiting.inputs += 1;
            waiting.bytes += bytes;
            self.bytes += bytes;
            match input {
                Input::Beat { .. } => waiting.beat = Some(at),
                Input::Joined { .. } | Input::Slots { .. } | Input::Left { .. } => waiting.presence = Some(at),
                _ => {}
            }
        }
        self.inputs.insert(at, Entry { input, bytes });
    }

    fn take(&mut self, at: u64) -> Option<Input> {
        let Entry { input, bytes } = self.inputs.remove(&at)?;
        if let Input::Layers(_) = input {
            self.layers -= 1;
        }
        if let Some(worker) = input.worker()
            && let Some(waiting) = self.workers.get_mut(&worker)
        {
            waiting.inputs -= 1;
            waiting.bytes -= bytes;
            self.bytes -= bytes;
            waiting.beat = waiting.beat.filter(|beat| *beat != at);
            waiting.presence = waiting.presence.filter(|presence| *presence != at);
            if waiting.inputs == 0 {
                self.workers.remove(&worker);
            }
        }
        Some(input)
    }

    fn drop_all(&mut self, worker: WorkerId) {
        let of_worker = |entry: &Entry| entry.input.worker() == Some(worker);
        let all: Vec<u64> = self.inputs.iter().filter(|(_, entry)| of_worker(entry)).map(|(at, _)| *at).collect();
        for at in all {
            self.take(at);
        }
    }
}

/// About how many bytes an input takes. Of slots and heartbeats one waits for each worker, and they count nothing.
fn size(input: &Input) -> usize {
    match input {
        Input::Said { message, .. } => BASE + message.encoded_len(),
        Input::Joined { name, .. } => BASE + name.len(),
        Input::Left { .. } => BASE,
        _ => 0,
    }
}
