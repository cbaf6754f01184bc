//! A factor of one random basis for each of many scalings: RandLora (Albert et al. 2025, arXiv:2502.00987; PEFT's `RandLoraLayer`).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size};
use crate::recipe::operand::Operand;
use crate::recipe::tile::NoResult;

/// `out[k * n + i, j] = lambda[k, i] * a[k, j] * gamma[i, j]`, for `n` scalings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bases {
    /// The basis: [r, columns].
    pub a: Operand,
    /// [r, n].
    pub lambda: Operand,
    /// [n, columns].
    pub gamma: Operand,
    /// Whether it is the transpose of the factor.
    pub transposed: bool,
}

impl Definition for Bases {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.a, &self.lambda, &self.gamma]
    }

    fn size(&self) -> Result<Size, String> {
        let (a, lambda, gamma) = (self.a.view, self.lambda.view, self.gamma.view);
        let rank = lambda.rows.checked_mul(lambda.cols);
        let Some(rank) = rank.filter(|_| a.rows == lambda.rows && a.cols == gamma.cols && lambda.cols == gamma.rows)
        else {
            let shown = |o: &&Operand| format!("{} of shape {:?}", o.source.name, o.source.shape);
            let all: Vec<String> = self.operands().iter().map(shown).collect();
            return Err(format!("{} do not fit each other", all.join(", ")));
        };
        Ok(if self.transposed { Size::one(a.cols, rank) } else { Size::one(rank, a.cols) })
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        let (n, cols) = (self.lambda.view.cols as usize, self.a.view.cols as usize);
        let rank = self.a.view.rows as usize * n;
        let mut out = vec![0.0; rank * cols];
        for row in 0..rank {
            let (a, gamma) = (&values[0][row / n * cols..][..cols], &values[2][row % n * cols..][..cols]);
            for (col, (a, gamma)) in a.iter().zip(gamma).enumerate() {
                let at = if self.transposed { col * rank + row } else { row * cols + col };
                out[at] = values[1][row] * a * gamma;
            }
        }
        Ok(out)
    }

    fn effort(&self) -> u64 {
        self.a.view.elements().saturating_mul(self.lambda.view.cols).saturating_mul(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;

    #[test]
    fn each_row_of_the_basis_is_scaled_in_every_way() {
        let operand = |name: &str, shape: &[u64]| {
            let (name, shape) = (name.into(), shape.to_vec());
            Operand::matrix(Source { name, object: ObjectId(0), offset: 0, dtype: Dtype::F32, shape })
        };
        let (a, lambda, gamma) = (operand("a", &[2, 3]), operand("lambda", &[2, 2]), operand("gamma", &[2, 3]));
        let bases = Bases { a, lambda, gamma, transposed: false };
        let values: [&[f64]; 3] =
            [&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &[1.0, 10.0, 100.0, 1000.0], &[1.0, 1.0, 1.0, 2.0, 3.0, 4.0]];
        let rows = [[1.0, 2.0, 3.0], [20.0, 60.0, 120.0], [400.0, 500.0, 600.0], [8000.0, 15000.0, 24000.0]];
        assert_eq!(bases.size(), Ok(Size::one(4, 3)));
        assert_eq!(bases.make(&values).unwrap(), rows.concat());
        let turned = Bases { transposed: true, ..bases.clone() };
        assert_eq!(turned.size(), Ok(Size::one(3, 4)));
        let columns: Vec<f64> = (0..3).flat_map(|col| rows.map(|row| row[col])).collect();
        assert_eq!(turned.make(&values).unwrap(), columns);
        let misfit = Bases { gamma: operand("gamma", &[2, 4]), ..bases };
        assert!(misfit.size().unwrap_err().contains("gamma of shape [2, 4]"));
    }
}
