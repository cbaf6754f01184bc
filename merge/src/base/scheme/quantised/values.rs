//! The values of small floats. Open Compute Project: OFP8 (E4M3, E5M2), Microscaling Formats (E2M1, E8M0).

use half::f16;

use crate::base::scheme::claim::Floats;
use crate::tensor::Dtype;
use crate::tensor::float::Float;

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

#[cfg(test)]
mod tests {
    use super::*;

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
