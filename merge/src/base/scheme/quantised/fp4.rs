//! Rows of E2M1 codes, two a byte with the first in the lower half, in groups with a common factor.

use super::values::{E2M1, to_e2m1};

/// The values of codes: each group is multiplied by its factor.
pub(super) fn decode(codes: &[u8], group: usize, factors: impl Iterator<Item = f32>, out: &mut [f32]) {
    for ((codes, out), factor) in codes.chunks(group / 2).zip(out.chunks_mut(group)).zip(factors) {
        let table = E2M1.map(|value| value * factor);
        for (byte, [low, high]) in codes.iter().zip(out.as_chunks_mut().0) {
            *low = table[usize::from(byte & 15)];
            *high = table[usize::from(byte >> 4)];
        }
    }
}

/// The code of a value over its factor. What becomes zero keeps its sign.
pub(super) fn code(value: f32, factor: f32) -> u8 {
    to_e2m1(value / factor) | u8::from(value < 0.0) << 3
}

/// How far a value may be from the nearest one.
pub(super) fn half_step(value: f32) -> f32 {
    match value.abs() {
        size if size < 2.0 => 0.25,
        size if size < 4.0 => 0.5,
        _ => 1.0,
    }
}
