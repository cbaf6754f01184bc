//! Between stored bytes and fp32: exact on the way up, rounded once to nearest even on the way down.
//!
//! bf16 is the upper half of an fp32, so both directions are integer arithmetic. Hardware conversions to bf16 are not
//! used anywhere: the x86 instruction flushes subnormals. Bytes are little-endian, as safetensors stores them, and need
//! no alignment.

use half::f16;
use serde::{Deserialize, Serialize};

use crate::Dtype;

#[cfg(test)]
mod tests;

/// A dtype that is computed with. Everything else is copied or belongs to a scheme.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Float {
    /// fp32.
    F32,
    /// fp16.
    F16,
    /// bf16.
    BF16,
}

impl Float {
    /// The float of a dtype, if it is one.
    pub fn of(dtype: Dtype) -> Option<Float> {
        match dtype {
            Dtype::F32 => Some(Float::F32),
            Dtype::F16 => Some(Float::F16),
            Dtype::BF16 => Some(Float::BF16),
            _ => None,
        }
    }

    /// Its dtype.
    pub fn dtype(self) -> Dtype {
        match self {
            Float::F32 => Dtype::F32,
            Float::F16 => Dtype::F16,
            Float::BF16 => Dtype::BF16,
        }
    }

    /// Bytes of a value.
    pub fn bytes(self) -> u64 {
        match self {
            Float::F32 => 4,
            Float::F16 | Float::BF16 => 2,
        }
    }

    /// Whether it holds every value of another one exactly.
    pub fn holds(self, other: Float) -> bool {
        self == Float::F32 || self == other
    }

    /// The value that is nearest to an fp32, ties to even; infinite where it cannot hold that.
    #[inline(always)]
    pub fn nearest(self, value: f32) -> f32 {
        match self {
            Float::F32 => value,
            Float::F16 => f16_to_f32(f32_to_f16(value)),
            Float::BF16 => bf16_to_f32(f32_to_bf16(value)),
        }
    }
}

const BF16_EXPONENT: u16 = 0x7F80;
const F16_EXPONENT: u16 = 0x7C00;

/// The fp32 of a bf16. Exact; NaN payloads are kept.
#[inline(always)]
pub fn bf16_to_f32(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

/// The bf16 nearest to an fp32, ties to even. Subnormals are kept, overflow becomes infinity, NaN becomes a quiet NaN of
/// the same sign.
#[inline(always)]
pub fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    // Adding just under half an ulp, plus one if the kept part is odd, carries exactly where nearest-even rounds up. On
    // a NaN the carry could run into the sign, so that is decided apart.
    let rounded = bits.wrapping_add(0x7FFF + ((bits >> 16) & 1)) >> 16;
    let quiet = (bits >> 16) | 0x0040;
    (if value.is_nan() { quiet } else { rounded }) as u16
}

/// The fp32 of an fp16. Exact; a NaN becomes quiet and keeps its payload.
#[inline(always)]
pub fn f16_to_f32(bits: u16) -> f32 {
    // The `const` forms never dispatch to hardware, so the definition is the same on every machine.
    f16::from_bits(bits).to_f32_const()
}

/// The fp16 nearest to an fp32, ties to even. Subnormals are kept, overflow becomes infinity, NaN becomes a quiet NaN of
/// the same sign.
#[inline(always)]
pub fn f32_to_f16(value: f32) -> u16 {
    f16::from_f32_const(value).to_bits()
}

/// Bytes an element of a dtype that deltas can be added to.
///
/// # Panics
/// If `dtype` is not F32, F16 or BF16: what is no [`Float`] is copied or refused by the plan and never decoded.
#[inline(always)]
pub fn width(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 4,
        Dtype::F16 | Dtype::BF16 => 2,
        other => panic!("{other} is not a dtype that can be fused"),
    }
}

/// Decodes `out.len()` elements from little-endian bytes. Exact.
///
/// # Panics
/// If `bytes` does not hold exactly `out.len()` elements, or `dtype` is not F32, F16 or BF16.
#[inline(always)]
pub fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    assert_eq!(bytes.len(), out.len() * width(dtype), "bytes of {} {dtype} elements", out.len());
    match dtype {
        Dtype::F32 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *value = f32::from_le_bytes(*bytes);
            }
        }
        Dtype::F16 => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *value = f16_to_f32(u16::from_le_bytes(*bytes));
            }
        }
        _ => {
            for (value, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                *value = bf16_to_f32(u16::from_le_bytes(*bytes));
            }
        }
    }
}

/// Decodes as [`decode`] does, into f64, for [`crate::recipe::exact`].
///
/// # Panics
/// As [`decode`].
pub fn decode_f64(dtype: Dtype, bytes: &[u8], out: &mut [f64]) {
    assert_eq!(bytes.len(), out.len() * width(dtype), "bytes of {} {dtype} elements", out.len());
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(width(dtype))) {
        let mut one = [0.0];
        decode(dtype, bytes, &mut one);
        *value = f64::from(one[0]);
    }
}

/// Rounds `values` to `dtype` and writes them as little-endian bytes; all of them, also past a bad one.
///
/// Returns the index of the first element whose *encoded* value is not finite: NaN, infinity, or a finite fp32 value
/// that overflows `dtype`.
///
/// # Panics
/// If `out` does not hold exactly `values.len()` elements, or `dtype` is not F32, F16 or BF16.
#[inline(always)]
pub fn encode(dtype: Dtype, values: &[f32], out: &mut [u8]) -> Option<usize> {
    assert_eq!(out.len(), values.len() * width(dtype), "bytes of {} {dtype} elements", values.len());
    // The loops only note that something is not finite: a loop that stops early cannot be vectorised, and the place is
    // needed only by a merge that fails.
    let mut bad = false;
    match dtype {
        Dtype::F32 => {
            for (value, bytes) in values.iter().zip(out.as_chunks_mut().0) {
                *bytes = value.to_le_bytes();
                bad |= !value.is_finite();
            }
        }
        Dtype::F16 => {
            for (value, bytes) in values.iter().zip(out.as_chunks_mut().0) {
                let bits = f32_to_f16(*value);
                *bytes = bits.to_le_bytes();
                bad |= bits & F16_EXPONENT == F16_EXPONENT;
            }
        }
        _ => {
            for (value, bytes) in values.iter().zip(out.as_chunks_mut().0) {
                let bits = f32_to_bf16(*value);
                *bytes = bits.to_le_bytes();
                bad |= bits & BF16_EXPONENT == BF16_EXPONENT;
            }
        }
    }
    if bad { first_non_finite(dtype, out) } else { None }
}

/// The index of the first encoded element that is NaN or infinite.
///
/// # Panics
/// If `dtype` is not F32, F16 or BF16.
pub fn first_non_finite(dtype: Dtype, bytes: &[u8]) -> Option<usize> {
    bytes.chunks_exact(width(dtype)).position(|element| {
        let mut value = [0.0];
        decode(dtype, element, &mut value);
        !value[0].is_finite()
    })
}
