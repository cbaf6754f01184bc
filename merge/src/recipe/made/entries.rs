//! The entries of a sparse matrix: SHiRA (Bhardwaj et al. 2024, arXiv:2406.13175; PEFT's `ShiraLayer`).

use serde::{Deserialize, Serialize};

use super::definition::{Definition, Size};
use crate::recipe::operand::Operand;
use crate::recipe::tile::{NoPlace, NoResult};
use crate::tensor::number::END_OF_PLACES;

/// A row for each entry: the row and the column of its place, and its value. They are in the order of their rows, and those of one row
/// as they are stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entries {
    /// [2, n]: rows, then columns.
    pub places: Operand,
    /// n values.
    pub values: Operand,
    /// Rows of the sparse matrix.
    pub rows: u64,
    /// Columns of it.
    pub cols: u64,
}

impl Definition for Entries {
    fn operands(&self) -> Vec<&Operand> {
        vec![&self.places, &self.values]
    }

    fn places(&self) -> Option<&Operand> {
        Some(&self.places)
    }

    fn size(&self) -> Result<Size, String> {
        let (places, values) = (self.places.view, self.values.view);
        let count = values.elements();
        if places.rows != 2 || places.cols != count {
            let (one, other) = (&self.places.source, &self.values.source);
            return Err(format!(
                "{} of shape {:?} names no row and column for each of the {count} values of {}",
                one.name, one.shape, other.name
            ));
        }
        if self.rows > END_OF_PLACES || self.cols > END_OF_PLACES {
            let name = &self.places.source.name;
            return Err(format!(
                "{name} has places in {} x {}, at most {END_OF_PLACES} each way",
                self.rows, self.cols
            ));
        }
        Ok(Size::one(count, 3))
    }

    fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        let (rows, columns) = values[0].split_at(values[1].len());
        let place = |number: f64, of: u64| NoPlace::check(&self.places.source.name, number, of);
        let mut entries = Vec::with_capacity(values[1].len());
        for ((row, column), value) in rows.iter().zip(columns).zip(values[1]) {
            place(*column, self.cols)?;
            entries.push((place(*row, self.rows)?, [*row, *column, *value]));
        }
        entries.sort_by_key(|(row, _)| *row);
        Ok(entries.into_iter().flat_map(|(_, entry)| entry).collect())
    }

    fn effort(&self) -> u64 {
        let count = self.values.view.elements();
        count.saturating_mul(u64::from(count.max(2).ilog2()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;

    fn entries(rows: u64, cols: u64) -> Entries {
        let source = |name: &str, dtype, shape: &[u64]| Source {
            name: name.into(),
            object: ObjectId(0),
            offset: 0,
            dtype,
            shape: shape.to_vec(),
        };
        Entries {
            places: Operand::matrix(source("shira_indices", Dtype::I32, &[2, 4])),
            values: Operand::vector(source("shira_weight", Dtype::F32, &[4])),
            rows,
            cols,
        }
    }

    #[test]
    fn entries_are_ordered_by_row_and_keep_their_order_in_it() {
        let made = entries(3, 5).make(&[&[2.0, 0.0, 2.0, 1.0, 4.0, 3.0, 0.0, 3.0], &[0.1, 0.2, 0.3, 0.4]]).unwrap();
        assert_eq!(made, [0.0, 3.0, 0.2, 1.0, 3.0, 0.4, 2.0, 4.0, 0.1, 2.0, 0.0, 0.3]);
    }

    #[test]
    fn a_number_that_is_no_place_is_refused() {
        let places = |row: f64, column: f64| [row, 0.0, 0.0, 0.0, column, 0.0, 0.0, 0.0];
        for (row, column, place, of) in
            [(3.0, 0.0, 3.0, 3), (0.0, 5.0, 5.0, 5), (-1.0, 0.0, -1.0, 3), (0.5, 0.0, 0.5, 3)]
        {
            let error = entries(3, 5).make(&[&places(row, column), &[1.0; 4]]).unwrap_err();
            assert_eq!(error, NoPlace { tensor: "shira_indices".into(), place, of }.into());
        }
        assert!(entries(3, 5).make(&[&places(2.0, 4.0), &[1.0; 4]]).is_ok());
    }

    #[test]
    fn a_matrix_whose_places_fp32_does_not_hold_is_refused() {
        assert!(entries(END_OF_PLACES, END_OF_PLACES).size().is_ok());
        assert!(entries(1, END_OF_PLACES + 1).size().is_err());
    }
}
