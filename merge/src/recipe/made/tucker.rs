//! A convolution's kernel from a core and two factors: the Tucker form of LoKr (Yeh et al. 2023, arXiv:2309.14859; PEFT's
//! `make_weight_cp`).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size};
use crate::recipe::operand::Operand;
use crate::recipe::tile::NoResult;

/// `out[p, q, x] = sum over i, j of core[i, j, x] * outputs[i, p] * inputs[j, q]`, where `x` runs over the places of the kernel.
/// It is a matrix of [p, q * x].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tucker {
    /// [rank, rank * places].
    pub core: Operand,
    /// [rank, outputs].
    pub outputs: Operand,
    /// [rank, inputs].
    pub inputs: Operand,
}

impl Tucker {
    fn places(&self) -> u64 {
        self.core.view.cols / self.inputs.view.rows.max(1)
    }
}

impl Definition for Tucker {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.core, &self.outputs, &self.inputs]
    }

    fn size(&self) -> Result<Size, String> {
        let (core, outputs, inputs) = (self.core.view, self.outputs.view, self.inputs.view);
        if core.rows != outputs.rows || inputs.rows == 0 || !core.cols.is_multiple_of(inputs.rows) {
            return Err(format!(
                "{} of shape {:?} does not fit {} of shape {:?} and {} of shape {:?}",
                self.core.source.name,
                self.core.source.shape,
                self.outputs.source.name,
                self.outputs.source.shape,
                self.inputs.source.name,
                self.inputs.source.shape
            ));
        }
        Ok(Size::one(outputs.cols, inputs.cols.saturating_mul(self.places())))
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        let [core, outputs, inputs] = [values[0], values[1], values[2]];
        let (high, wide, places) =
            (self.outputs.view.cols as usize, self.inputs.view.cols as usize, self.places() as usize);
        let inner = self.inputs.view.rows as usize;
        let mut out = vec![0.0; high * wide * places];
        for (i, core) in core.chunks_exact(inner * places).enumerate() {
            // The core's slice with the inputs, [inputs, places]; then once for each output.
            let mut slice = vec![0.0; wide * places];
            for (j, core) in core.chunks_exact(places).enumerate() {
                for (slice, factor) in slice.chunks_exact_mut(places).zip(&inputs[j * wide..][..wide]) {
                    slice.iter_mut().zip(core).for_each(|(out, core)| *out += core * factor);
                }
            }
            for (out, factor) in out.chunks_exact_mut(wide * places).zip(&outputs[i * high..][..high]) {
                out.iter_mut().zip(&slice).for_each(|(out, value)| *out += value * factor);
            }
        }
        Ok(out)
    }

    fn effort(&self) -> u64 {
        let of_core = self.core.view.elements().saturating_mul(self.inputs.view.cols);
        let of_outputs =
            self.outputs.view.elements().saturating_mul(self.inputs.view.cols.saturating_mul(self.places()));
        of_core.saturating_add(of_outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;

    #[test]
    fn the_core_meets_both_factors_at_every_place() {
        let operand = |name: &str, shape: &[u64]| {
            let (name, shape) = (name.to_owned(), shape.to_vec());
            Operand::matrix(Source { name, object: ObjectId(0), offset: 0, dtype: Dtype::F32, shape })
        };
        let (rank, high, wide, places) = (2, 3, 4, 5);
        let made = Tucker {
            core: operand("t", &[rank, rank, places, 1]),
            outputs: operand("a", &[rank, high]),
            inputs: operand("b", &[rank, wide]),
        };
        assert_eq!(made.size(), Ok(Size::one(high, wide * places)));
        let number = |n: usize| (0..n).map(|i| (i * i % 7) as f64 - 3.0).collect::<Vec<_>>();
        let (core, outputs, inputs) = (number(20), number(6), number(8));
        let out = made.make(&[&core, &outputs, &inputs]).unwrap();
        for p in 0..3 {
            for q in 0..4 {
                for x in 0..5 {
                    let of = |i: usize, j: usize| core[(i * 2 + j) * 5 + x] * outputs[i * 3 + p] * inputs[j * 4 + q];
                    let expected: f64 = (0..2).flat_map(|i| (0..2).map(move |j| (i, j))).map(|(i, j)| of(i, j)).sum();
                    assert_eq!(out[p * 20 + q * 5 + x], expected, "{p} {q} {x}");
                }
            }
        }
    }
}
