//! A product of two stored matrices.

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size, product};
use crate::recipe::operand::Operand;
use crate::recipe::tile::NoResult;

/// `left @ right`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Product {
    /// [rows, rank].
    pub left: Operand,
    /// [rank, cols].
    pub right: Operand,
}

impl Definition for Product {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.left, &self.right]
    }

    fn size(&self) -> Result<Size, String> {
        let (left, right) = (self.left.view, self.right.view);
        if left.cols != right.rows {
            let (a, b) = (&self.left.source.name, &self.right.source.name);
            return Err(format!("{a} and {b} have the ranks {} and {}", left.cols, right.rows));
        }
        Ok(Size::one(left.rows, right.cols))
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        Ok(product(values[0], values[1], self.left.view.cols as usize, self.right.view.cols as usize))
    }

    fn effort(&self) -> u64 {
        self.left.view.elements().saturating_mul(self.right.view.cols)
    }
}
