//! A factor whose products have a bounded norm: DeLoRA (Bini et al. 2025, arXiv:2503.18225; PEFT's `DeloraLayer`).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size};
use crate::recipe::operand::Operand;
use crate::recipe::tile::NoResult;

/// What PEFT takes for a shorter length.
const SHORTEST: f64 = 1e-4;

/// `out[k, j] = bound / r * a[k, j] / (|row k of a| * |column k of b|) * gains[j]`. A length below 1e-4 counts as that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Normalised {
    /// [r, columns].
    pub a: Operand,
    /// [rows, r].
    pub b: Operand,
    /// One value: the bound.
    pub bound: Operand,
    /// One value for each column.
    pub gains: Operand,
}

impl Definition for Normalised {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.a, &self.b, &self.bound, &self.gains]
    }

    fn size(&self) -> Result<Size, String> {
        let (a, b) = (self.a.view, self.b.view);
        if a.rows != b.cols {
            let (one, other) = (&self.a.source.name, &self.b.source.name);
            return Err(format!("{one} and {other} have the ranks {} and {}", a.rows, b.cols));
        }
        if self.bound.view.elements() != 1 || self.gains.view.elements() != a.cols {
            let (bound, gains) = (&self.bound.source, &self.gains.source);
            return Err(format!(
                "{} and {} have the shapes {:?} and {:?}, expected 1 and {} values",
                bound.name, gains.name, bound.shape, gains.shape, a.cols
            ));
        }
        Ok(Size::one(a.rows, a.cols))
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        let (a, b, bound, gains) = (values[0], values[1], values[2][0], values[3]);
        let (r, cols) = (self.a.view.rows as usize, self.a.view.cols as usize);
        let mut squares = vec![0.0; r];
        for row in b.chunks_exact(r) {
            squares.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * v);
        }
        let mut out = Vec::with_capacity(a.len());
        for (row, of_b) in a.chunks_exact(cols).zip(squares) {
            let of_a = row.iter().fold(0.0, |sum, v| sum + v * v).sqrt().max(SHORTEST);
            let factor = bound / r as f64 / (of_a * of_b.sqrt().max(SHORTEST));
            out.extend(row.iter().zip(gains).map(|(v, gain)| factor * v * gain));
        }
        Ok(out)
    }

    fn effort(&self) -> u64 {
        2 * self.a.view.elements() + self.b.view.elements()
    }
}
