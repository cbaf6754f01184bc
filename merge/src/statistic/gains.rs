//! What squares of columns make of magnitudes: DoRA's gains.

use crate::recipe::op::NoNorm;
use crate::recipe::op::norm::dora_gain;

/// Each magnitude over the norm of its column.
///
/// # Errors
/// If a column has no norm to divide by. `tensor` names the magnitudes.
pub fn gains(tensor: &str, magnitudes: &[f32], squares: &[f64]) -> Result<Vec<f32>, NoNorm> {
    let gain = |(output, (magnitude, squares)): (usize, (&f32, &f64))| {
        dora_gain(*magnitude, *squares).ok_or_else(|| NoNorm {
            tensor: tensor.to_owned(),
            output: output as u64,
            norm: squares.sqrt(),
        })
    };
    magnitudes.iter().zip(squares).enumerate().map(gain).collect()
}
