//! The values of small floats. Open Compute Project: OFP8 (E4M3, E5M2), Microscaling Formats (E2M1, E8M0).

use half::f16;

use crate::base::scheme::claim::Floats;
use crate::tensor::Dtype;
use crate::tensor::float::{self, Float};

/// E4M3: 4 bits of exponent with a bias of 7, 3 of fraction, no infinities.
pub(super) fn e4m3(code: u8) -> f32 {
    let (exponent, fraction) = (u32::from(code >> 3 & 15), u32::from(code & 7));
    let size = match (exponent, fraction) {
        (15, 7) => f32::NAN,
        (0, _) => fraction as f32 / 512.0,
        _ => f32::from_bits((exponent + 120) << 23 | fraction << 20),
    };
    if code & 0x80 == 0 { size } else { -size }
}

/// The E4M3 that is nearest to a finite number, ties to even; the largest one for what is beyond.
pub(super) fn to_e4m3(value: f32) -> u8 {
    let size = value.abs().min(448.0);
    let code = if size < 1.0 / 64.0 {
        (size * 512.0).round_ties_even() as u32
    } else {
        let bits = size.to_bits();
        ((bits + 0x7_FFFF + (bits >> 20 & 1)) >> 20) - (120 << 3)
    };
    code as u8 | u8::from(value.is_sign_negative()) << 7
}

/// E5M2: the upper half of an fp16.
pub(super) fn e5m2(code: u8) -> f32 {
    f16::from_bits(u16::from(code) << 8).to_f32()
}

/// E8M0: a power of two with a bias of 127, which has no sign.
pub(super) fn e8m0(code: u8) -> f32 {
    match code {
        0 => f32::from_bits(1 << 22),
        255 => f32::NAN,
        _ => f32::from_bits(u32::from(code) << 23),
    }
}

/// E2M1: the four bits of a value of FP4.
pub(super) const E2M1: [f32; 16] =
    [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];

/// The magnitude of E2M1 that is nearest to a number, ties to even; 6 for what is beyond.
pub(super) fn to_e2m1(value: f32) -> u8 {
    let size = value.abs();
    // Between two neighbours lies the middle, which goes to the even code.
    let beyond = [size > 0.25, size >= 0.75, size > 1.25, size >= 1.75, size > 2.5, size >= 3.5, size > 5.0];
    beyond.into_iter().map(u8::from).sum()
}

/// The largest magnitude.
pub(super) fn largest(values: impl IntoIterator<Item = f32>) -> f32 {
    values.into_iter().fold(0.0, |largest, value| largest.max(value.abs()))
}

/// The power of two at or below a positive number, and whether it is the number itself.
pub(super) fn power_below(value: f32) -> (i32, bool) {
    // Every positive fp32 is a normal f64.
    let bits = f64::from(value).to_bits();
    ((bits >> 52) as i32 - 1023, bits << 12 == 0)
}

/// The power of two at or above a positive number.
pub(super) fn power_above(value: f32) -> i32 {
    let (power, exact) = power_below(value);
    power + i32::from(!exact)
}

/// The E8M0 code of a power of two, or of the nearest one that it has.
pub(super) fn to_e8m0(power: i32) -> u8 {
    (power + 127).clamp(0, 254) as u8
}

/// The power of two that compressed-tensors takes for the scale of a block with this largest magnitude: the one at or below
/// it, or the next one if the magnitude is 1.75 times that or more, less `offset` [`generate_mx_scales` of 0.20].
pub(super) fn to_mx_scale(largest: f32, offset: u32) -> u8 {
    let exponent = (largest.to_bits() + (1 << 21)) >> 23;
    exponent.saturating_sub(offset) as u8
}

/// The value of a scale as its dtype holds it, and its bytes. What would be zero is the dtype's epsilon instead, as
/// compressed-tensors has it.
pub(super) fn to_scale(float: Float, scale: f32, out: &mut [u8]) -> f32 {
    let (most, epsilon) = match float {
        Float::F32 => (f32::MAX, f32::EPSILON),
        Float::F16 => (65504.0, 1.0 / 1024.0),
        Float::BF16 => (f32::from_bits(0x7F7F_0000), 1.0 / 128.0),
    };
    let held = match float.nearest(scale) {
        0.0 => epsilon,
        held => held.min(most),
    };
    float::encode(float.dtype(), &[held], out);
    held
}

/// Bytes of a value of a scale; `None` for a dtype that scales do not have.
pub(super) fn scale_bytes(dtype: Dtype) -> Option<u64> {
    match dtype {
        Dtype::U8 | Dtype::F8_E8M0 => Some(1),
        _ => Float::of(dtype).map(Float::bytes),
    }
}

/// The values of scales. A byte is a power of two.
pub(super) fn scales(dtype: Dtype, bytes: &[u8], floats: Floats<'_>) -> Vec<f32> {
    match Float::of(dtype) {
        None => bytes.iter().map(|code| e8m0(*code)).collect(),
        Some(float) => {
            let mut values = vec![0.0; bytes.len() / float.bytes() as usize];
            floats(float, bytes, &mut values);
            values
        }
    }
}

/// The code of up to 8 bits that begins at this bit of a stream, as a number. The lowest bits come first.
pub(super) fn code(bytes: &[u8], bit: usize, bits: u64) -> f32 {
    let at = |byte: usize| u32::from(bytes.get(byte).copied().unwrap_or(0));
    let two = at(bit / 8) | at(bit / 8 + 1) << 8;
    (two >> (bit % 8) & ((1 << bits) - 1)) as f32
}

/// Codes of a stream from one of them on: (code - zero) x scale.
pub(super) fn integers(bytes: &[u8], bits: u64, first: usize, zero: f32, scale: f32, out: &mut [f32]) {
    match bits {
        8 => {
            for (byte, out) in bytes[first..].iter().zip(out) {
                *out = (f32::from(*byte) - zero) * scale;
            }
        }
        4 if first.is_multiple_of(2) => {
            let (pairs, last) = out.as_chunks_mut::<2>();
            let bytes = &bytes[first / 2..];
            for (byte, [low, high]) in bytes.iter().zip(&mut *pairs) {
                *low = (f32::from(byte & 15) - zero) * scale;
                *high = (f32::from(byte >> 4) - zero) * scale;
            }
            if let [last] = last {
                *last = (f32::from(bytes[pairs.len()] & 15) - zero) * scale;
            }
        }
        _ => {
            for (at, out) in out.iter_mut().enumerate() {
                *out = (code(bytes, (first + at) * bits as usize, bits) - zero) * scale;
            }
        }
    }
}

/// Puts a code of up to 8 bits, which do not cross a byte, into a stream.
pub(super) fn put_code(bytes: &mut [u8], bit: usize, bits: u64, code: u8) {
    let (byte, shift) = (&mut bytes[bit / 8], bit % 8);
    let mask = (((1u16 << bits) - 1) as u8) << shift;
    *byte = *byte & !mask | code << shift & mask;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_and_what_lies_between_goes_to_the_nearest_and_the_even_one() {
        for code in (0..=255u8).filter(|code| !e4m3(*code).is_nan()) {
            assert_eq!(to_e4m3(e4m3(code)), code, "{code:#x}");
            let next = e4m3(code + 1);
            if code & 0x7F < 0x7E {
                let middle = (e4m3(code) + next) / 2.0;
                let (below, above) = (middle - middle * 1e-6, middle + middle * 1e-6);
                let even = code + (code & 1);
                assert_eq!([below, middle, above].map(to_e4m3), [code, even, code + 1], "{code:#x}");
            }
        }
        assert_eq!((to_e4m3(449.0), to_e4m3(-1e30), to_e4m3(-0.0), to_e4m3(1e-9)), (0x7E, 0xFE, 0x80, 0));
        for code in 0..8u8 {
            let (own, next) = (E2M1[usize::from(code)], E2M1[usize::from(code + 1)]);
            assert_eq!(to_e2m1(-own), code);
            if code < 7 {
                let middle = (own + next) / 2.0;
                assert_eq!([middle - 1e-6, middle, middle + 1e-6].map(to_e2m1), [code, code + (code & 1), code + 1]);
            }
        }
        assert_eq!(to_e2m1(1e9), 7);
    }

    #[test]
    fn powers_of_two_below_and_above() {
        for (value, below, above) in
            [(1.0, 0, 0), (1.5, 0, 1), (0.75, -1, 0), (1e-40, -133, -132), (f32::from_bits(1), -149, -149)]
        {
            assert_eq!((power_below(value).0, power_above(value)), (below, above), "{value}");
        }
        assert_eq!((to_e8m0(-200), to_e8m0(0), to_e8m0(200)), (0, 127, 254));
        // 6 is 1.5 x 4, 7 is 1.75 x 4.
        assert_eq!([6.0, 6.99, 7.0, 0.0, 1e-40].map(|largest| to_mx_scale(largest, 2)), [127, 127, 128, 0, 0]);
    }

    #[test]
    fn a_scale_is_what_its_dtype_holds_and_never_zero() {
        let mut two = [0; 2];
        assert_eq!((to_scale(Float::BF16, 1.003, &mut two), two), (1.0, [0x80, 0x3F]));
        assert_eq!((to_scale(Float::F16, 1e-9, &mut two), two), (1.0 / 1024.0, [0x00, 0x14]));
        assert_eq!(to_scale(Float::F16, 1e9, &mut two), 65504.0);
        assert_eq!(to_scale(Float::F32, 0.0, &mut [0; 4]), f32::EPSILON);
    }

    #[test]
    fn a_code_is_put_between_its_neighbours() {
        let mut bytes = [0xAB, 0xCD];
        put_code(&mut bytes, 4, 4, 5);
        assert_eq!(bytes, [0x5B, 0xCD]);
        put_code(&mut bytes, 8, 8, 0xFF);
        put_code(&mut bytes, 2, 2, 1);
        assert_eq!(bytes, [0x57, 0xFF]);
    }

    #[test]
    fn codes_are_the_numbers_of_their_definitions() {
        let cases = [(0x00, 0.0), (0x01, 0.001_953_125), (0x07, 0.013_671_875), (0x08, 0.015_625), (0x38, 1.0)];
        for (code, value) in cases {
            assert_eq!((e4m3(code), e4m3(code | 0x80)), (value, -value), "{code:#x}");
        }
        assert_eq!((e4m3(0x7E), e4m3(0x3C), e4m3(0xFE)), (448.0, 1.5, -448.0));
        assert!(e4m3(0x7F).is_nan() && e4m3(0xFF).is_nan());
        assert_eq!((e5m2(0x3C), e5m2(0x7B), e5m2(0x01)), (1.0, 57344.0, 1.0 / 65536.0));
        assert_eq!((e8m0(127), e8m0(130), e8m0(126)), (1.0, 8.0, 0.5));
        assert_eq!(e8m0(0), 2.0f32.powi(-127));
        assert!(e8m0(255).is_nan());
    }
}
