//! The formulas by which libraries make FP8.
//!
//! `a` is the largest magnitude of a block, and x a value:
//!
//! | method | scale | code, saturating, to nearest even |
//! |---|---|---|
//! | `fp8`, scales in F32 | 1 / (448 / a) | x * (448 / a), where 448 / a is torch's, (1 / a) * 448: transformers 5.23, `Fp8Quantize` of `integrations/finegrained_fp8.py` |
//! | `fp8` with `scale_fmt` `ue8m0` | the power of two at or above that | x / scale: the same |
//! | `fp8`, other scales; `compressed-tensors`, `fbgemm_fp8`, `modelopt` | a / 448, rounded to the dtype of the scale | x / scale: compressed-tensors 0.20, `calculate_qparams` and `quantize` |
//! | `compressed-tensors`, scales in bytes | the power of two of [`to_mx_scale`], less 8 | x / scale: compressed-tensors 0.20, `generate_mx_scales` |
//! | `modelopt`, `mxfp8`, scales in bytes | the power of two at or above a / 448 | x / scale: ModelOpt, `MXFP8QTensor` |

use crate::base::quantisation::Quantisation;
use crate::base::scheme::claim::Rule;
use crate::base::scheme::quantised::values::{e8m0, power_above, to_e4m3, to_e8m0, to_mx_scale, to_scale};
use crate::inventory::Source;
use crate::tensor::Dtype;
use crate::tensor::float::{self, Float};

const DIVIDED: Rule = Rule(0);
const TRANSFORMERS: Rule = Rule(1);
const TRANSFORMERS_POWERS: Rule = Rule(2);
const MODELOPT_POWERS: Rule = Rule(3);
const MX: Rule = Rule(4);

/// The largest E4M3.
const MOST: f32 = 448.0;

/// The formula of whoever wrote such codes and scales.
///
/// # Errors
/// Why none is known, as the end of a sentence about the parameter.
pub(super) fn of(codes: &Source, scale: &Source, said: &Quantisation) -> Result<Rule, String> {
    if codes.dtype != Dtype::F8_E4M3 {
        return Err(format!("no library is known that writes weights as {:?}", codes.dtype));
    }
    let bytes = Float::of(scale.dtype).is_none();
    match said.method.as_deref() {
        Some("fp8") if bytes || said.powers => Ok(TRANSFORMERS_POWERS),
        Some("fp8") if scale.dtype == Dtype::F32 => Ok(TRANSFORMERS),
        Some("compressed-tensors") if bytes => Ok(MX),
        Some("modelopt" | "mxfp8") if bytes => Ok(MODELOPT_POWERS),
        Some("fp8" | "compressed-tensors" | "fbgemm_fp8" | "modelopt") if !bytes => Ok(DIVIDED),
        Some(method) => {
            Err(format!("it is not known how {method} makes scales that are {:?} ({})", scale.dtype, scale.name))
        }
        None => Err("config.json has no quantization_config that says how its scales are made".to_owned()),
    }
}

/// Whether a number is that of a formula.
pub(super) fn knows(rule: Rule) -> bool {
    rule.0 <= MX.0
}

/// How the values of a block become codes.
#[derive(Debug, Clone, Copy)]
pub(super) enum By {
    Multiplied(f32),
    Divided(f32),
}

impl By {
    /// The code of a value.
    pub(super) fn code(self, value: f32) -> u8 {
        to_e4m3(match self {
            By::Multiplied(factor) => value * factor,
            By::Divided(scale) => value / scale,
        })
    }
}

/// Stores the scale of a block whose largest magnitude is `largest`, and returns how its values become codes.
pub(super) fn store(rule: Rule, largest: f32, dtype: Dtype, out: &mut [u8]) -> By {
    let power = |code: u8, out: &mut [u8]| {
        match Float::of(dtype) {
            None => out[0] = code,
            Some(float) => _ = float::encode(float.dtype(), &[e8m0(code)], out),
        }
        By::Divided(e8m0(code))
    };
    let float = Float::of(dtype).unwrap_or(Float::F32);
    // torch divides a number by a tensor as the tensor's reciprocal times the number. It is infinite for the smallest numbers.
    let factor = if largest > 0.0 { (1.0 / largest * MOST).min(f32::MAX) } else { 1.0 };
    match rule {
        TRANSFORMERS => {
            float::encode(float.dtype(), &[1.0 / factor], out);
            By::Multiplied(factor)
        }
        TRANSFORMERS_POWERS => power(to_e8m0(power_above((1.0 / factor).max(f32::MIN_POSITIVE))), out),
        MODELOPT_POWERS if largest / MOST > 0.0 => power(to_e8m0(power_above(largest / MOST)), out),
        MODELOPT_POWERS => power(0, out),
        MX => power(to_mx_scale(largest, 8), out),
        _ => By::Divided(to_scale(float, largest / MOST, out)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The scale of a block by its largest magnitude, and how values become codes.
    fn stored(rule: Rule, largest: f32) -> (f32, By) {
        let mut out = [0; 4];
        let by = store(rule, largest, Dtype::F32, &mut out);
        (f32::from_le_bytes(out), by)
    }

    #[test]
    fn transformers_divides_as_torch_does() {
        // Numbers for which a division gives another last digit.
        let of = |is: &dyn Fn(f32) -> bool| (1..1000).map(|n| n as f32 * 0.37).find(|a| is(*a)).unwrap();
        let divided = of(&|a| 1.0 / a * MOST != MOST / a);
        assert!(matches!(stored(TRANSFORMERS, divided).1, By::Multiplied(factor) if factor == 1.0 / divided * MOST));
        let back = of(&|a| 1.0 / (1.0 / a * MOST) != a / MOST);
        assert_eq!(stored(TRANSFORMERS, back).0, 1.0 / (1.0 / back * MOST));
    }

    #[test]
    fn powers_of_two_are_those_of_each_library() {
        let power = |rule, largest| match stored(rule, largest) {
            (scale, By::Divided(by)) if scale == by => scale,
            other => panic!("{other:?}"),
        };
        assert_eq!([power(MODELOPT_POWERS, 448.0), power(MODELOPT_POWERS, 449.0)], [1.0, 2.0]);
        assert_eq!(
            [power(MX, 300.0), power(MX, 448.0), power(MX, 600.0)],
            [1.0, 2.0, 2.0],
            "from 1.75 x 256 on the next"
        );
        assert_eq!([power(TRANSFORMERS_POWERS, 440.0), power(TRANSFORMERS_POWERS, 460.0)], [1.0, 2.0]);
    }
}
