//! Both ways between stored bytes and fp32, against an oracle in f64.

use super::*;

/// What a dtype can hold, for an oracle that knows nothing of bit patterns.
struct Format {
    precision: i32,
    lowest: i32,
    max: f64,
}

const BF16: Format = Format { precision: 8, lowest: -126, max: 3.3895313892515355e38 };
const F16: Format = Format { precision: 11, lowest: -14, max: 65504.0 };

/// Rounds by arithmetic on f64: `v` in units of its last place, to the nearest whole number, ties to even.
fn nearest(format: &Format, v: f64) -> f64 {
    if v == 0.0 || !v.is_finite() {
        return v;
    }
    // `log2` may be off by one next to a power of two, so the exponent is found by comparing.
    let mut exponent = format.lowest;
    while 2.0_f64.powi(exponent + 1) <= v.abs() {
        exponent += 1;
    }
    let ulp = 2.0_f64.powi(exponent - format.precision + 1);
    let rounded = (v / ulp).round_ties_even() * ulp;
    if rounded.abs() > format.max { f64::INFINITY.copysign(v) } else { rounded }
}

fn check_rounding(bits: u32) {
    let value = f32::from_bits(bits);
    let (bf16, f16) = (bf16_to_f32(f32_to_bf16(value)), f16_to_f32(f32_to_f16(value)));
    if value.is_nan() {
        assert!(bf16.is_nan() && f16.is_nan(), "{bits:#x}");
        assert_eq!(bf16.is_sign_negative(), value.is_sign_negative(), "{bits:#x}");
        assert_ne!(bf16.to_bits() & f16.to_bits() & 0x0040_0000, 0, "{bits:#x} must become quiet");
        return;
    }
    let exact = f64::from(value);
    assert_eq!(f64::from(bf16).to_bits(), nearest(&BF16, exact).to_bits(), "{value:e} to bf16");
    assert_eq!(f64::from(f16).to_bits(), nearest(&F16, exact).to_bits(), "{value:e} to fp16");
    for (float, format, narrow) in [(Float::BF16, &BF16, bf16), (Float::F16, &F16, f16)] {
        assert_eq!(float.nearest(value).to_bits(), narrow.to_bits(), "{value:e} to {float:?} and back");
        let in_f64 = crate::recipe::exact::nearest(float, exact);
        assert_eq!(in_f64.to_bits(), nearest(format, exact).to_bits(), "{value:e} to {float:?} in f64");
    }
}

#[test]
fn rounding_agrees_with_an_oracle_in_f64() {
    // A prime stride visits every exponent with many mantissas, NaN and infinity included.
    for bits in (0..=u32::MAX).step_by(40_961) {
        check_rounding(bits);
    }
}

#[test]
fn rounding_is_right_at_every_stored_value_and_every_tie() {
    for stored in 0..=u16::MAX {
        let upper = u32::from(stored) << 16;
        for bits in [upper, upper | 0x7FFF, upper | 0x8000, upper | 0x8001, upper | 0xFFFF] {
            check_rounding(bits);
        }
        // Halfway to the next fp16, and one fp32 step to either side.
        let (this, next) = (f16_to_f32(stored), f16_to_f32(stored.wrapping_add(1)));
        let tie = ((f64::from(this) + f64::from(next)) / 2.0) as f32;
        for bits in [this.to_bits(), tie.to_bits().wrapping_sub(1), tie.to_bits(), tie.to_bits().wrapping_add(1)] {
            check_rounding(bits);
        }
    }
    // The largest values that stay finite, and the first that do not.
    for bits in [0x7F7F_7FFF, 0x7F7F_8000, 65519.996_f32.to_bits(), 65520.0_f32.to_bits(), f32::MAX.to_bits()] {
        check_rounding(bits);
        check_rounding(bits | 0x8000_0000);
    }
}

#[test]
fn stored_values_survive_the_way_up_and_down() {
    for stored in 0..=u16::MAX {
        let (bf16, f16) = (bf16_to_f32(stored), f16_to_f32(stored));
        let quiet_bf16 = if bf16.is_nan() { stored | 0x0040 } else { stored };
        let quiet_f16 = if f16.is_nan() { stored | 0x0200 } else { stored };
        assert_eq!(f32_to_bf16(bf16), quiet_bf16);
        assert_eq!(f32_to_f16(f16), quiet_f16);
    }
    assert_eq!(f16_to_f32(0x0001), 2.0_f32.powi(-24), "the least subnormal");
    assert_eq!(f16_to_f32(0x3555), 0.333_251_95);
}

#[test]
fn encoding_names_the_first_value_that_the_dtype_cannot_hold() {
    let values = [1.0, -2.5, 65520.0, f32::MAX, f32::NAN];
    let mut bytes = [0; 20];
    assert_eq!(encode(Dtype::F16, &values, &mut bytes[..10]), Some(2));
    assert_eq!(encode(Dtype::BF16, &values, &mut bytes[..10]), Some(3));
    assert_eq!(encode(Dtype::F32, &values, &mut bytes), Some(4));
    assert_eq!(encode(Dtype::F16, &values[..2], &mut bytes[..4]), None);
    assert_eq!(encode(Dtype::F32, &[], &mut []), None);
    // What comes after the bad one is written all the same.
    encode(Dtype::F16, &[f32::INFINITY, 1.0], &mut bytes[..4]);
    assert_eq!(bytes[..4], [0x00, 0x7C, 0x00, 0x3C]);
}

#[test]
fn bytes_are_little_endian_and_decode_to_the_same_value_in_f64() {
    let mut wide = [0.0; 2];
    decode_f64(Dtype::F32, &[0, 0, 0x80, 0x3F, 0, 0, 0, 0xC0], &mut wide);
    assert_eq!(wide, [1.0, -2.0]);
    decode_f64(Dtype::BF16, &[0x80, 0x3F, 0, 0xC0], &mut wide);
    assert_eq!(wide, [1.0, -2.0]);
    decode_f64(Dtype::F16, &[0, 0x3C, 0, 0xC0], &mut wide);
    assert_eq!(wide, [1.0, -2.0]);
}

#[test]
#[should_panic(expected = "I64 is not a dtype that can be fused")]
fn integers_are_not_values() {
    decode(Dtype::I64, &[0; 8], &mut [0.0]);
}
