//! What every kind of delta provides, and what their definitions have in common.

use crate::inventory::Source;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::made::Matrices;
use crate::recipe::operand::{Input, Value};
use crate::recipe::tile::{ExactRows, Tile};

/// What every kind of delta provides.
pub trait Definition {
    /// What it reads. The values are passed in this order.
    fn inputs(&self) -> Vec<Input<'_>>;
    /// The matrices that it takes. Their values are passed behind those of the inputs.
    fn matrices(&self) -> Vec<Matrices<'_>> {
        Vec::new()
    }
    /// Holds its matrices, each of which is sound, against the parameter.
    ///
    /// # Errors
    /// What does not fit.
    fn fits(&self, rows: u64, cols: u64) -> Result<(), String> {
        let _ = (rows, cols);
        Ok(())
    }
    /// The factor that it is added with.
    fn scale(&self) -> f32;
    /// Inner dimensions that must agree: what they are, the one and the other.
    fn inner(&self) -> Vec<(&Source, u64, u64)>;
    /// The definition in fp32: `w += delta`.
    fn add<A: Arithmetic>(&self, arithmetic: &A, tile: &mut Tile<'_>, values: &[Value<'_, A::Right>]);
    /// The same in f64. Every value is row-major.
    fn exact(&self, tile: &mut ExactRows<'_>, values: &[&[f64]]);
    /// Fused multiply-adds for each element.
    fn cost(&self) -> u64;
}

/// `left @ right` in f64, [rows, cols].
pub fn exact_product(cols: usize, left: &[f64], right: &[f64]) -> Vec<f64> {
    if cols == 0 || right.is_empty() {
        return Vec::new();
    }
    let rank = right.len() / cols;
    let mut out = vec![0.0; left.len() / rank * cols];
    for (out, left) in out.chunks_exact_mut(cols).zip(left.chunks_exact(rank)) {
        for (left, right) in left.iter().zip(right.chunks_exact(cols)) {
            for (out, right) in out.iter_mut().zip(right) {
                *out += left * right;
            }
        }
    }
    out
}
