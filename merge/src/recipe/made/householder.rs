//! A product of Householder reflections in compact form: HRA (Yuan et al. 2024, arXiv:2405.17484; PEFT's `HRALayer`).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size};
use crate::recipe::operand::Operand;
use crate::recipe::tile::{NoNorm, NoResult};

/// Which factor of what is added to the identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Half {
    /// U, [inputs, r].
    Vectors,
    /// `-T @ U^T`, [r, inputs].
    Back,
}

/// One factor of `H_1 H_2 ... H_r - I = U @ (-T @ U^T)`, where `H_i = I - 2 u_i u_i^T` and U has the vectors, of length 1, as columns.
/// T is upper triangular, with 2 on the diagonal (Schreiber and Van Loan 1989, the compact WY form).
///
/// With `orthogonal` the vectors are made orthogonal first (Gram and Schmidt); T is then 2 I.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Householder {
    /// [inputs, r].
    pub vectors: Operand,
    /// Whether the vectors are made orthogonal.
    pub orthogonal: bool,
    /// Which factor.
    pub half: Half,
}

impl Householder {
    /// The vectors, one after another.
    fn unit(&self, stored: &[f64]) -> Result<Vec<Vec<f64>>, NoNorm> {
        let r = self.vectors.view.cols as usize;
        let mut units: Vec<Vec<f64>> = Vec::with_capacity(r);
        for i in 0..r {
            let mut u: Vec<f64> = stored.iter().skip(i).step_by(r).copied().collect();
            for earlier in units.iter().filter(|_| self.orthogonal) {
                let along = dot(earlier, &u);
                u.iter_mut().zip(earlier).for_each(|(u, earlier)| *u -= along * earlier);
            }
            let norm = dot(&u, &u).sqrt();
            if norm == 0.0 || !norm.is_finite() {
                let tensor = self.vectors.source.name.clone();
                return Err(NoNorm { tensor, output: i as u64, norm });
            }
            u.iter_mut().for_each(|v| *v /= norm);
            units.push(u);
        }
        Ok(units)
    }

    /// Rows of `-T @ U^T`, by `T_(k+1) = [[T_k, -2 T_k U_k^T u], [0, 2]]`.
    fn back(&self, units: &[Vec<f64>]) -> Vec<f64> {
        let inputs = self.vectors.view.rows as usize;
        let mut back: Vec<f64> = Vec::with_capacity(units.len() * inputs);
        for (k, u) in units.iter().enumerate() {
            // A row i of T @ U^T so far is -back[i]; its product with u is what the new column of T takes twice.
            for row in back.chunks_exact_mut(inputs).filter(|_| !self.orthogonal) {
                let factor = -2.0 * dot(row, u);
                row.iter_mut().zip(u).for_each(|(v, u)| *v += factor * u);
            }
            debug_assert_eq!(back.len(), k * inputs);
            back.extend(u.iter().map(|v| -2.0 * v));
        }
        back
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).fold(0.0, |sum, (a, b)| sum + a * b)
}

impl Definition for Householder {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.vectors]
    }

    fn size(&self) -> Result<Size, String> {
        let view = self.vectors.view;
        Ok(match self.half {
            Half::Vectors => Size::one(view.rows, view.cols),
            Half::Back => Size::one(view.cols, view.rows),
        })
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        let units = self.unit(values[0])?;
        Ok(match self.half {
            Half::Vectors => {
                let inputs = self.vectors.view.rows as usize;
                (0..inputs).flat_map(|row| units.iter().map(move |u| u[row])).collect()
            }
            Half::Back => self.back(&units),
        })
    }

    fn effort(&self) -> u64 {
        self.vectors.view.elements().saturating_mul(2 * self.vectors.view.cols)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;

    /// Four inputs, three vectors.
    const VALUES: [f64; 12] = [1.0, 0.5, -1.0, 2.0, 0.0, 0.25, -0.5, 1.5, 1.0, 0.0, 3.0, -2.0];

    fn made(orthogonal: bool, half: Half) -> Vec<f64> {
        let shape = vec![4, 3];
        let source = Source { name: "hra_u".into(), object: ObjectId(0), offset: 0, dtype: Dtype::F32, shape };
        Householder { vectors: Operand::matrix(source), orthogonal, half }.make(&[&VALUES]).unwrap()
    }

    #[test]
    fn the_two_factors_are_the_product_of_the_reflections() {
        for orthogonal in [false, true] {
            let (vectors, back) = (made(orthogonal, Half::Vectors), made(orthogonal, Half::Back));
            let identity = |i: usize, j: usize| f64::from(u8::from(i == j));
            let mut product: Vec<f64> = (0..16).map(|at| identity(at / 4, at % 4)).collect();
            for k in 0..3 {
                let u: Vec<f64> = (0..4).map(|i| vectors[i * 3 + k]).collect();
                assert!((dot(&u, &u) - 1.0).abs() < 1e-15);
                product = (0..16)
                    .map(|at| {
                        let row = &product[at / 4 * 4..][..4];
                        row[at % 4] - 2.0 * dot(row, &u) * u[at % 4]
                    })
                    .collect();
            }
            for at in 0..16 {
                let added: f64 = (0..3).map(|k| vectors[at / 4 * 3 + k] * back[k * 4 + at % 4]).sum();
                assert!((identity(at / 4, at % 4) + added - product[at]).abs() < 1e-14, "{orthogonal} {at}");
            }
        }
    }

    #[test]
    fn a_vector_without_a_length_is_refused() {
        let shape = vec![2, 2];
        let source = Source { name: "hra_u".into(), object: ObjectId(0), offset: 0, dtype: Dtype::F32, shape };
        let made = Householder { vectors: Operand::matrix(source), orthogonal: false, half: Half::Back };
        let error = made.make(&[&[1.0, 0.0, 2.0, 0.0]]).unwrap_err();
        assert_eq!(error, NoNorm { tensor: "hra_u".into(), output: 1, norm: 0.0 }.into());
    }
}
