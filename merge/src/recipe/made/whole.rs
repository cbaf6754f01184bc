//! Stored matrices as they are.

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size};
use crate::recipe::operand::Operand;
use crate::recipe::tile::NoResult;

/// The rows of a stored matrix, as so many matrices of equally many rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Whole {
    /// All of them, one below the other.
    pub operand: Operand,
    /// How many they are.
    pub count: u64,
}

impl Whole {
    /// One matrix.
    pub fn one(operand: Operand) -> Whole {
        Whole { operand, count: 1 }
    }
}

impl Definition for Whole {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.operand]
    }

    fn size(&self) -> Result<Size, String> {
        let view = self.operand.view;
        if self.count == 0 || !view.rows.is_multiple_of(self.count) {
            return Err(format!("{} rows of {} are {} matrices", view.rows, self.operand.source.name, self.count));
        }
        Ok(Size { count: self.count, rows: view.rows / self.count, cols: view.cols })
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        Ok(values[0].to_vec())
    }

    fn effort(&self) -> u64 {
        self.operand.view.elements()
    }
}
