//! The codes of bitsandbytes' 4-bit types, and the limits between them.
//!
//! A value over the largest of its block gets the code whose limits it lies between, and a value on a limit the lower one
//! [bitsandbytes 0.50, `csrc/kernels.cu`, `dQuantizeNF4`, `dQuantizeFP4`]. Its CPU path has the same limits for NF4; for FP4 they are
//! the middles of two codes in fp32, of which five differ from those of the card in the last digits.

/// NF4: the 16 values, from the smallest to the largest.
const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The limits between the values of NF4.
const NF4_LIMITS: [f32; 15] = [
    -0.848_096_4,
    -0.610_632_9,
    -0.459_995_27,
    -0.339_679_43,
    -0.234_607_4,
    -0.137_911_73,
    -0.045_525_018,
    0.039_790_15,
    0.120_255_25,
    0.203_521_25,
    0.292_013_76,
    0.389_312_54,
    0.501_663_45,
    0.642_786_9,
    0.861_478_45,
];

/// FP4: the sizes, from the smallest to the largest. Twelfths of the values of a float with two bits of exponent and one of
/// fraction, of which the smallest is a sixteenth.
const FP4: [f32; 8] = [0.0, 0.005_208_333_3, 0.166_666_67, 0.25, 0.333_333_34, 0.5, 0.666_666_7, 1.0];

/// The limits between the sizes of FP4, as the card has them.
const FP4_LIMITS: [f32; 7] =
    [0.002_604_17, 0.085_937_5, 0.208_333_33, 0.291_666_67, 0.416_666_7, 0.583_333, 0.833_333_3];

/// The value of NF4 for a value from -1 to 1.
pub(super) fn nf4(x: f32) -> f32 {
    NF4[NF4_LIMITS.iter().filter(|limit| x > **limit).count()]
}

/// The value of FP4 for a value from -1 to 1.
pub(super) fn fp4(x: f32) -> f32 {
    let size = FP4[FP4_LIMITS.iter().filter(|limit| x.abs() > **limit).count()];
    if x < 0.0 { -size } else { size }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_limit_gets_the_lower_code() {
        for (at, limit) in NF4_LIMITS.into_iter().enumerate() {
            assert_eq!((nf4(limit), nf4(limit.next_up())), (NF4[at], NF4[at + 1]), "{limit}");
            assert_eq!(limit, (NF4[at] + NF4[at + 1]) / 2.0, "the middle, in fp32");
        }
        for (at, limit) in FP4_LIMITS.into_iter().enumerate() {
            assert_eq!((fp4(limit), fp4(limit.next_up())), (FP4[at], FP4[at + 1]), "{limit}");
            assert_eq!((fp4(-limit), fp4(limit.next_up().copysign(-1.0))), (-FP4[at], -FP4[at + 1]), "-{limit}");
        }
    }

    #[test]
    fn codes_are_those_of_the_library() {
        // The texts of bitsandbytes, with all their digits.
        for (x, text) in [
            (-0.7, "-0.6961928009986877"),
            (0.25, "0.24611230194568634"),
            (0.72, "0.7229568362236023"),
            (-0.1, "-0.09105003625154495"),
            (1.0, "1.0"),
            (0.039, "0.0"),
        ] {
            assert_eq!(nf4(x), text.parse::<f32>().unwrap(), "{x}");
        }
        for (x, text) in [
            (0.004, "0.005208333333"),
            (-0.004, "-0.005208333333"),
            (0.002, "0.0"),
            (0.3, "0.33333333"),
            (0.6, "0.66666667"),
            (0.2, "0.16666667"),
            (-0.9, "-1.0"),
        ] {
            assert_eq!(fp4(x), text.parse::<f32>().unwrap(), "{x}");
        }
    }
}
