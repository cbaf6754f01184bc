//! Rotations by Cayley's transform: OFT (Qiu et al. 2023, arXiv:2306.07280; PEFT's `OFTRotationModule`) and BOFT (Liu et al.
//! 2023, arXiv:2311.06243).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size, product};
use crate::recipe::operand::Operand;
use crate::recipe::tile::NoResult;

/// How skew-symmetric matrices Q are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Skew {
    /// A row has the upper triangle of one, row by row, and the lower one is its negative.
    Upper,
    /// Square matrices V below each other, with `Q = (V - V^T) / 2`.
    Square,
}

/// How far each block turns: what is added to the identity. For a rotation R that is `R - I`, or its transpose.
///
/// | | R |
/// |---|---|
/// | exactly | `(I - Q) (I + Q)^-1` |
/// | as a series of n terms | `I + 2Q + 2Q^2 + ... + 2Q^(n-2) + Q^(n-1)`; of 3 terms as of 4, of 2 `I + 2Q`, of 1 `I` |
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cayley {
    /// The matrices Q.
    pub skew: Operand,
    /// How they are stored.
    pub stored: Skew,
    /// Rows and columns of a block.
    pub side: u64,
    /// The terms of the series; `None` for the exact transform.
    pub terms: Option<u32>,
    /// The largest Frobenius norm of a Q; a larger one is shortened to it.
    pub limit: Option<f64>,
    /// Whether it is the transpose.
    pub transposed: bool,
}

impl Cayley {
    fn blocks(&self) -> u64 {
        match self.stored {
            Skew::Upper => self.skew.view.rows,
            Skew::Square => self.skew.view.rows / self.side.max(1),
        }
    }

    /// The matrix Q of a block.
    fn skew(&self, stored: &[f64], side: usize) -> Vec<f64> {
        let mut q = vec![0.0; side * side];
        let mut upper = stored.iter();
        for i in 0..side {
            for j in i + 1..side {
                let value = match self.stored {
                    Skew::Upper => upper.next().copied().unwrap_or(0.0),
                    Skew::Square => 0.5 * (stored[i * side + j] - stored[j * side + i]),
                };
                q[i * side + j] = value;
                q[j * side + i] = -value;
            }
        }
        let norm = q.iter().map(|v| v * v).sum::<f64>().sqrt();
        if let Some(limit) = self.limit.filter(|limit| norm > *limit) {
            q.iter_mut().for_each(|v| *v *= limit / norm);
        }
        q
    }

    /// R - I.
    fn turn(&self, q: &[f64], side: usize) -> Vec<f64> {
        match self.terms {
            None => transposed(&solved(q, side), side),
            Some(terms) => series(q, side, terms),
        }
    }
}

/// The sum of a series, without the identity.
fn series(q: &[f64], side: usize, terms: u32) -> Vec<f64> {
    let mut sum = vec![0.0; side * side];
    let mut power = q.to_vec();
    let mut add = |power: &[f64], times: f64| sum.iter_mut().zip(power).for_each(|(sum, v)| *sum += times * v);
    let last = match terms {
        0 | 1 => 0,
        2 => 1,
        _ => terms.max(4) - 1,
    };
    for exponent in 1..=last {
        if exponent > 1 {
            power = product(&power, q, side, side);
        }
        add(&power, if terms > 2 && exponent == last { 1.0 } else { 2.0 });
    }
    sum
}

/// `2 (I - Q)^-1 Q`, which is the transpose of `(I - Q) (I + Q)^-1 - I`.
///
/// Gauss elimination without exchanging rows: the symmetric part of `I - Q` is the identity, and stays at least that in what
/// is left after each step, so no pivot is small.
fn solved(q: &[f64], side: usize) -> Vec<f64> {
    let mut left: Vec<f64> = q.iter().map(|v| -v).collect();
    let mut right: Vec<f64> = q.iter().map(|v| 2.0 * v).collect();
    for i in 0..side {
        left[i * side + i] += 1.0;
    }
    for pivot in 0..side {
        let (above, below) = left.split_at_mut((pivot + 1) * side);
        let (right_above, right_below) = right.split_at_mut((pivot + 1) * side);
        let (row, right_row) = (&above[pivot * side..], &right_above[pivot * side..]);
        for (below, right_below) in below.chunks_exact_mut(side).zip(right_below.chunks_exact_mut(side)) {
            let factor = below[pivot] / row[pivot];
            below[pivot..].iter_mut().zip(&row[pivot..]).for_each(|(v, above)| *v -= factor * above);
            right_below.iter_mut().zip(right_row).for_each(|(v, above)| *v -= factor * above);
        }
    }
    for pivot in (0..side).rev() {
        let (above, row) = right.split_at_mut(pivot * side);
        let row = &mut row[..side];
        row.iter_mut().for_each(|v| *v /= left[pivot * side + pivot]);
        for (i, above) in above.chunks_exact_mut(side).enumerate() {
            let factor = left[i * side + pivot];
            above.iter_mut().zip(&*row).for_each(|(v, below)| *v -= factor * below);
        }
    }
    right
}

fn transposed(square: &[f64], side: usize) -> Vec<f64> {
    (0..side * side).map(|at| square[at % side * side + at / side]).collect()
}

impl Definition for Cayley {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.skew]
    }

    fn size(&self) -> Result<Size, String> {
        let (view, side) = (self.skew.view, self.side);
        let fits = match self.stored {
            Skew::Upper => side.checked_mul(side.saturating_sub(1)).is_some_and(|twice| twice / 2 == view.cols),
            Skew::Square => view.cols == side && view.rows.is_multiple_of(side.max(1)),
        };
        let limited = self.limit.is_none_or(|limit| limit.is_finite() && limit >= 0.0);
        if !fits || side == 0 || !limited || self.terms.is_some_and(|terms| terms > MOST_TERMS) {
            let (name, shape) = (&self.skew.source.name, &self.skew.source.shape);
            return Err(format!("{name} of shape {shape:?} gives no blocks of {side} x {side}"));
        }
        Ok(Size { count: self.blocks(), rows: side, cols: side })
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        let side = self.side as usize;
        let each = values[0].len() / self.blocks().max(1) as usize;
        let block = |stored: &[f64]| {
            let turn = self.turn(&self.skew(stored, side), side);
            if self.transposed { transposed(&turn, side) } else { turn }
        };
        Ok(values[0].chunks_exact(each.max(1)).flat_map(block).collect())
    }

    fn effort(&self) -> u64 {
        let cube = self.side.saturating_mul(self.side).saturating_mul(self.side);
        cube.saturating_mul(self.blocks()).saturating_mul(u64::from(self.terms.unwrap_or(2)))
    }
}

/// The most terms of a series.
pub const MOST_TERMS: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;

    fn cayley(terms: Option<u32>, transposed: bool) -> Cayley {
        let shape = vec![2, 3];
        let source = Source { name: "oft_R".into(), object: ObjectId(0), offset: 0, dtype: Dtype::F32, shape };
        let skew = Operand::matrix(source);
        Cayley { skew, stored: Skew::Upper, side: 3, terms, limit: None, transposed }
    }

    const VALUES: [f64; 6] = [0.1, -0.2, 0.3, 0.0, 0.5, 0.25];

    fn with_identity(turn: &[f64]) -> Vec<f64> {
        turn.iter().enumerate().map(|(at, v)| v + f64::from(u8::from(at / 3 == at % 3))).collect()
    }

    #[test]
    fn the_exact_transform_is_a_rotation_and_its_equation_holds() {
        let made = cayley(None, false).make(&[&VALUES]).unwrap();
        for (block, stored) in made.chunks_exact(9).zip(VALUES.chunks_exact(3)) {
            let r = with_identity(block);
            let q = cayley(None, false).skew(stored, 3);
            let minus: Vec<f64> = q.iter().map(|v| -v).collect();
            let orthogonal = product(&r, &transposed(&r, 3), 3, 3);
            let back = product(&r, &with_identity(&q), 3, 3);
            for at in 0..9 {
                assert!((orthogonal[at] - f64::from(u8::from(at / 3 == at % 3))).abs() < 1e-15, "{orthogonal:?}");
                assert!((back[at] - with_identity(&minus)[at]).abs() < 1e-15, "{back:?}");
            }
        }
        let other = cayley(None, true).make(&[&VALUES]).unwrap();
        assert_eq!(transposed(&other[..9], 3), made[..9], "the transpose is the transpose");
    }

    #[test]
    fn a_series_has_the_terms_that_peft_adds() {
        let q = cayley(None, false).skew(&VALUES[..3], 3);
        let power = |n: u32| (1..n).fold(q.clone(), |power, _| product(&power, &q, 3, 3));
        let sum = |factors: &[f64]| {
            let mut sum = vec![0.0; 9];
            for (n, factor) in (1..).zip(factors) {
                sum.iter_mut().zip(power(n)).for_each(|(sum, v)| *sum += factor * v);
            }
            sum
        };
        let terms: [(u32, &[f64]); 6] = [
            (1, &[]),
            (2, &[2.0]),
            (3, &[2.0, 2.0, 1.0]),
            (4, &[2.0, 2.0, 1.0]),
            (5, &[2.0, 2.0, 2.0, 1.0]),
            (6, &[2.0, 2.0, 2.0, 2.0, 1.0]),
        ];
        for (n, factors) in terms {
            assert_eq!(series(&q, 3, n), sum(factors), "{n} terms");
        }
    }

    #[test]
    fn a_longer_matrix_is_shortened_and_a_shorter_one_is_not() {
        let limited = |limit| Cayley { limit: Some(limit), ..cayley(None, false) };
        let norm = |q: &[f64]| q.iter().map(|v| v * v).sum::<f64>().sqrt();
        let whole = cayley(None, false).skew(&VALUES[..3], 3);
        assert!((norm(&limited(0.01).skew(&VALUES[..3], 3)) - 0.01).abs() < 1e-15);
        assert_eq!(limited(1.0).skew(&VALUES[..3], 3), whole);
    }

    #[test]
    fn square_matrices_give_half_the_difference_to_their_transpose() {
        let square = Cayley { stored: Skew::Square, side: 2, ..cayley(None, false) };
        assert_eq!(square.skew(&[5.0, 3.0, 1.0, 7.0], 2), [0.0, 1.0, -1.0, 0.0]);
    }
}
