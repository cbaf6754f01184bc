//! Numbers that look random and follow from a seed (SplitMix64).

use std::time::Duration;

/// A sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rng(u64);

impl Rng {
    pub const fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// A sequence of its own for a purpose, so that drawing more for one changes nothing for another.
    pub fn of(seed: u64, purpose: &str) -> Self {
        let hash = blake3::hash(format!("{seed} {purpose}").as_bytes());
        Rng(u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes")))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 0..n.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    /// Milliseconds between two bounds, both included.
    pub fn millis(&mut self, (least, most): (u64, u64)) -> Duration {
        Duration::from_millis(least + self.below(most - least + 1))
    }

    /// True so many times in a thousand.
    pub fn chance(&mut self, in_a_thousand: u64) -> bool {
        self.below(1000) < in_a_thousand
    }

    pub fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }
}
