//! What the steps of each adapter do to the values, until it is known that they do something.
//!
//! An adapter that changes nothing is an error of the merge, so a worker tells of each part whether it does. A step does something if one value,
//! rounded to the dtype of the output, is another one after it. Nearly always the first tile tells, and nothing is looked at from then on.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use shardfuse_merge::Dtype;
use shardfuse_merge::recipe::Step;

use crate::device::cpu::Kernels;

/// Values that are rounded at a time.
const CHUNK: usize = 4096;

/// What the steps of an adapter did to values.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Effect {
    /// The adapter's number in the plan.
    pub adapter: u16,
    /// Whether a value is another one than before.
    pub moved: bool,
    /// Whether all of them add zero, as their factors tell.
    pub zero: bool,
    /// If not, the most that was added to a value in fp32; `None` where that was not looked at.
    pub largest: Option<f32>,
}

impl Effect {
    /// Both together, of one adapter.
    fn and(self, other: Effect) -> Effect {
        Effect {
            adapter: self.adapter,
            moved: self.moved || other.moved,
            zero: self.zero && other.zero,
            largest: self.largest.zip(other.largest).map(|(one, other)| one.max(other)),
        }
    }
}

/// One effect for each adapter.
pub fn by_adapter(effects: impl IntoIterator<Item = Effect>) -> Vec<Effect> {
    let mut all: BTreeMap<u16, Effect> = BTreeMap::new();
    for effect in effects {
        all.entry(effect.adapter).and_modify(|known| *known = known.and(effect)).or_insert(effect);
    }
    all.into_values().collect()
}

/// Looks at what steps do. Threads share it.
#[derive(Debug)]
pub struct Watch {
    /// The dtype of the output; `None` where values are encoded, which is judged elsewhere.
    to: Option<Dtype>,
    steps: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    adapter: u16,
    /// Whether the delta is zero, as its factors tell.
    idle: bool,
    moved: AtomicBool,
    /// The bits of the largest difference: those of positive numbers are in their order.
    largest: AtomicU32,
    /// Whether all differences were looked at.
    measured: AtomicBool,
}

impl Watch {
    /// Of these steps, of which some are known to add zero.
    pub fn new(steps: &[Step], idle: &[bool], to: Option<Dtype>) -> Watch {
        let watched = |(step, idle): (&Step, &bool)| Watched {
            adapter: step.adapter,
            idle: *idle,
            moved: AtomicBool::new(false),
            largest: AtomicU32::new(0),
            measured: AtomicBool::new(true),
        };
        Watch { to, steps: steps.iter().zip(idle).map(watched).collect() }
    }

    /// Whether it is not known yet that a step does something.
    pub fn waits(&self, step: usize) -> bool {
        self.steps.get(step).is_some_and(|watched| !watched.moved.load(Ordering::Relaxed))
    }

    /// Whether that is not known of any of the steps that may.
    pub fn waits_for_any(&self) -> bool {
        (0..self.steps.len()).any(|step| !self.steps[step].idle && self.waits(step))
    }

    /// Looks at values before and after a step.
    pub fn saw(&self, kernels: &Kernels, step: usize, before: &[f32], after: &[f32]) {
        let watched = &self.steps[step];
        if differ(kernels, self.to, before, after) {
            watched.moved.store(true, Ordering::Relaxed);
        } else {
            let most = before.iter().zip(after).fold(0.0f32, |most, (a, b)| most.max((b - a).abs()));
            watched.largest.fetch_max(most.to_bits(), Ordering::Relaxed);
        }
    }

    /// Looks at values before and after all steps together: which of them did it is not told apart, but one that adds zero did not.
    pub fn saw_all(&self, kernels: &Kernels, before: &[f32], after: &[f32]) {
        self.all_moved(differ(kernels, self.to, before, after));
    }

    /// Notes whether values that all steps together made are other ones than before.
    pub fn all_moved(&self, moved: bool) {
        for watched in self.steps.iter().filter(|watched| !watched.idle) {
            watched.moved.fetch_or(moved, Ordering::Relaxed);
            watched.measured.store(false, Ordering::Relaxed);
        }
    }

    /// What was seen, one for each adapter.
    pub fn effects(&self) -> Vec<Effect> {
        by_adapter(self.steps.iter().map(|watched| {
            Effect {
                adapter: watched.adapter,
                moved: watched.moved.load(Ordering::Relaxed),
                zero: watched.idle,
                largest: watched
                    .measured
                    .load(Ordering::Relaxed)
                    .then(|| f32::from_bits(watched.largest.load(Ordering::Relaxed))),
            }
        }))
    }
}

/// Whether a value is another one once rounded. The sign of a zero does not count: adding zero changes it.
fn differ(kernels: &Kernels, to: Option<Dtype>, before: &[f32], after: &[f32]) -> bool {
    let Some(to) = to else { return before != after };
    let width = to.bitsize() / 8;
    let (mut one, mut other) = (Vec::new(), Vec::new());
    before.chunks(CHUNK).zip(after.chunks(CHUNK)).any(|(before, after)| {
        one.resize(before.len() * width, 0);
        other.resize(before.len() * width, 0);
        kernels.encode(to, before, &mut one);
        kernels.encode(to, after, &mut other);
        one != other
            && before
                .iter()
                .zip(after)
                .zip(one.chunks_exact(width).zip(other.chunks_exact(width)))
                .any(|((before, after), (one, other))| before != after && one != other)
    })
}

/// Whether bytes are others than stored values give once rounded. `skip` bytes of the first values were made for another part.
pub fn converted_differ(kernels: &Kernels, raw: (&[u8], Dtype), made: (&[u8], Dtype), skip: usize) -> bool {
    let ((raw, from), (made, to)) = (raw, made);
    let (narrow, width) = (from.bitsize() / 8, to.bitsize() / 8);
    let (mut values, mut bytes, mut at) = (Vec::new(), Vec::new(), 0);
    raw.chunks(CHUNK * narrow).any(|raw| {
        values.resize(raw.len() / narrow, 0.0);
        bytes.resize(values.len() * width, 0);
        kernels.decode(from, raw, &mut values);
        kernels.encode(to, &values, &mut bytes);
        let (first, end) = (at, at + bytes.len());
        at = end;
        let (begin, end) = (first.max(skip), end.min(skip + made.len()));
        // The top byte of a zero that lost its sign.
        let sign = |(want, have): (&u8, &u8)| want != have && !(*want == 0x80 && *have == 0);
        begin < end && bytes[begin - first..end - first].iter().zip(&made[begin - skip..end - skip]).any(sign)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watched(idle: &[bool], to: Dtype) -> Watch {
        let steps = (0u16..).zip(idle).map(|(adapter, idle)| Watched {
            adapter,
            idle: *idle,
            moved: AtomicBool::new(false),
            largest: AtomicU32::new(0),
            measured: AtomicBool::new(true),
        });
        Watch { to: Some(to), steps: steps.collect() }
    }

    #[test]
    fn a_step_does_something_once_a_rounded_value_is_another_one() {
        let kernels = Kernels::best();
        let watch = watched(&[false, false, false], Dtype::BF16);
        watch.saw(&kernels, 0, &[1.0, -0.0], &[1.0, 0.0]);
        watch.saw(&kernels, 1, &[1.0, 2.0], &[1.0 + 1e-4, 2.0]);
        watch.saw(&kernels, 2, &[1.0, 2.0], &[1.0, 2.5]);
        let seen: Vec<(bool, bool)> =
            watch.effects().iter().map(|e| (e.moved, e.largest.is_some_and(|most| most > 0.0))).collect();
        assert_eq!(seen, [(false, false), (false, true), (true, false)]);
        assert!(watch.waits(1) && !watch.waits(2));
        let wide = watched(&[false], Dtype::F32);
        wide.saw(&kernels, 0, &[1.0], &[1.0 + 1e-4]);
        assert!(wide.effects()[0].moved, "f32 holds what bf16 does not");
    }

    #[test]
    fn of_steps_that_are_seen_together_one_that_adds_zero_did_nothing() {
        let watch = watched(&[true, false], Dtype::F32);
        watch.saw_all(&Kernels::best(), &[1.0], &[2.0]);
        let effects = watch.effects();
        assert_eq!((effects[0].moved, effects[0].zero, effects[0].largest), (false, true, Some(0.0)));
        assert_eq!((effects[1].moved, effects[1].largest), (true, None));
    }

    #[test]
    fn bytes_are_held_against_what_conversion_gives() {
        let kernels = Kernels::best();
        let raw: Vec<u8> = [0x3f80u16, 0x8000, 0x4000].iter().flat_map(|v| v.to_le_bytes()).collect();
        let made: Vec<u8> = [1.0f32, 0.0, 2.0].iter().flat_map(|v| v.to_le_bytes()).collect();
        let differ = |made: &[u8], skip| converted_differ(&kernels, (&raw, Dtype::BF16), (made, Dtype::F32), skip);
        assert!(!differ(&made, 0) && !differ(&made[4..], 4));
        let mut other = made.clone();
        other[11] ^= 1;
        assert!(differ(&other, 0) && differ(&other[4..], 4) && !differ(&other[..8], 0));
    }
}
