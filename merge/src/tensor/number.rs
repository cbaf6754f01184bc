//! Stored numbers of any width that stand for places, such as those of a sparse matrix.

use super::Dtype;
use super::float::{self, Float};

/// From here on fp32 does not hold every whole number. What is smaller is exact.
pub const END_OF_PLACES: u64 = 1 << 24;

/// Whether a dtype may hold places: integers, or fp32 (PEFT on Windows).
pub fn holds_places(dtype: Dtype) -> bool {
    width(dtype).is_some() || dtype == Dtype::F32
}

/// Bytes of an integer.
fn width(dtype: Dtype) -> Option<usize> {
    Some(match dtype {
        Dtype::U8 | Dtype::I8 => 1,
        Dtype::U16 | Dtype::I16 => 2,
        Dtype::U32 | Dtype::I32 => 4,
        Dtype::U64 | Dtype::I64 => 8,
        _ => return None,
    })
}

/// Whether [`decode`] takes a dtype.
pub fn is_number(dtype: Dtype) -> bool {
    Float::of(dtype).is_some() || width(dtype).is_some()
}

/// Decodes little-endian floats or integers. Floats are exact, and so are integers below [`END_OF_PLACES`]; a larger one becomes a number
/// that is not below it.
///
/// # Panics
/// If `bytes` does not hold exactly `out.len()` elements, or `dtype` is neither.
pub fn decode(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    let Some(width) = width(dtype) else { return float::decode(dtype, bytes, out) };
    assert_eq!(bytes.len(), out.len() * width, "bytes of {} {dtype} elements", out.len());
    let signed = matches!(dtype, Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64);
    for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(width)) {
        let negative = signed && bytes[width - 1] & 0x80 != 0;
        let mut wide = [if negative { 0xFF } else { 0 }; 8];
        wide[..width].copy_from_slice(bytes);
        *value = if signed { i64::from_le_bytes(wide) as f32 } else { u64::from_le_bytes(wide) as f32 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(dtype: Dtype, bytes: &[u8]) -> f32 {
        let mut value = [0.0];
        decode(dtype, bytes, &mut value);
        value[0]
    }

    #[test]
    fn every_width_gives_its_number() {
        assert_eq!(one(Dtype::U8, &[200]), 200.0);
        assert_eq!(one(Dtype::I8, &[200]), -56.0);
        assert_eq!(one(Dtype::I16, &(-3i16).to_le_bytes()), -3.0);
        assert_eq!(one(Dtype::U16, &65_000u16.to_le_bytes()), 65_000.0);
        assert_eq!(one(Dtype::I32, &16_777_215i32.to_le_bytes()), 16_777_215.0);
        assert_eq!(one(Dtype::U32, &u32::MAX.to_le_bytes()), 4_294_967_296.0);
        assert_eq!(one(Dtype::I64, &(-1i64).to_le_bytes()), -1.0);
        assert_eq!(one(Dtype::U64, &u64::MAX.to_le_bytes()), 18_446_744_073_709_551_616.0);
        assert_eq!(one(Dtype::F32, &0.5f32.to_le_bytes()), 0.5, "floats are decoded too");
    }

    #[test]
    fn what_is_not_exact_stays_beyond_the_end_of_places() {
        for value in [END_OF_PLACES, END_OF_PLACES + 1, END_OF_PLACES + 3, u64::from(u32::MAX), u64::MAX >> 1] {
            assert!(one(Dtype::I64, &value.to_le_bytes()) >= END_OF_PLACES as f32, "{value}");
        }
        assert!(one(Dtype::I64, &(END_OF_PLACES - 1).to_le_bytes()) < END_OF_PLACES as f32);
    }
}
