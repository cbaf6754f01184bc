//! Tiles of a stored matrix, each transposed: the factors of GraLoRA.

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size};
use crate::recipe::operand::Operand;
use crate::recipe::tile::NoResult;

/// Tiles of a stored matrix, `down` x `across` of them, each transposed. Those below each other follow one another, then those of
/// the next columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cut {
    /// The matrix.
    pub operand: Operand,
    /// Tiles below each other.
    pub down: u64,
    /// Tiles side by side.
    pub across: u64,
}

impl Definition for Cut {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.operand]
    }

    fn size(&self) -> Result<Size, String> {
        let (view, Cut { down, across, .. }) = (self.operand.view, self);
        let count = down.checked_mul(*across).filter(|count| *count > 0);
        let Some(count) = count.filter(|_| view.rows.is_multiple_of(*down) && view.cols.is_multiple_of(*across)) else {
            let (name, shape) = (&self.operand.source.name, &self.operand.source.shape);
            return Err(format!("{name} of shape {shape:?} has no {down} x {across} equal tiles"));
        };
        Ok(Size { count, rows: view.cols / across, cols: view.rows / down })
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        let view = self.operand.view;
        let (rows, cols, wide) = (view.rows / self.down, view.cols / self.across, view.cols as usize);
        let mut out = Vec::with_capacity(values[0].len());
        for across in 0..self.across {
            for down in 0..self.down {
                for col in across * cols..(across + 1) * cols {
                    out.extend(
                        (down * rows..(down + 1) * rows).map(|row| values[0][row as usize * wide + col as usize]),
                    );
                }
            }
        }
        Ok(out)
    }

    fn effort(&self) -> u64 {
        self.operand.view.elements()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;

    #[test]
    fn tiles_are_transposed_and_go_down_first() {
        let shape = vec![4, 4];
        let source = Source { name: "a".into(), object: ObjectId(0), offset: 0, dtype: Dtype::F32, shape };
        let cut = Cut { operand: Operand::matrix(source), down: 2, across: 2 };
        let values: Vec<f64> = (0..16).map(f64::from).collect();
        assert_eq!(cut.size(), Ok(Size { count: 4, rows: 2, cols: 2 }));
        let expected = [0, 4, 1, 5, 8, 12, 9, 13, 2, 6, 3, 7, 10, 14, 11, 15].map(f64::from);
        assert_eq!(cut.make(&[&values]).unwrap(), expected);
    }
}
