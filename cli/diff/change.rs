//! What became of a tensor.

use serde::Serialize;
use shardfuse_merge::tensor::matrix;

use super::sums::Sums;

/// How a tensor was compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Compared {
    /// By its values, decoded where it is quantised.
    Values,
    /// By its stored elements, as bytes: nothing is known of their values.
    Bytes,
    /// Not at all: the shapes do not fit, or one of the two lacks it.
    Not,
}

/// What became of a tensor.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Change {
    /// Its name.
    pub tensor: String,
    /// How it is stored, before and after; none where it is lacking.
    pub stored: [Option<String>; 2],
    /// Its shape, likewise.
    pub shape: [Option<Vec<u64>>; 2],
    /// How it was compared.
    pub compared: Compared,
    /// Elements that were compared.
    pub elements: u64,
    /// Elements that are others.
    pub changed: u64,
    /// The norm of the change over that of the values before; none where it was not compared by values, or these are all zero.
    pub relative: Option<f64>,
    /// The largest difference.
    pub largest: Option<f64>,
    /// Where it is.
    pub at: Option<Vec<u64>>,
    /// Changed elements of which one version is not finite.
    #[serde(skip_serializing_if = "is_zero")]
    pub non_finite: u64,
    /// Rows that only the one before and only the one after has.
    pub rows_only: [u64; 2],
    /// The sums, for what is told of several tensors together.
    #[serde(skip)]
    pub sums: Sums,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl Change {
    /// Of a tensor that was not compared.
    pub fn not(tensor: &str, stored: [Option<String>; 2], shape: [Option<Vec<u64>>; 2]) -> Change {
        Change {
            tensor: tensor.to_owned(),
            stored,
            shape,
            compared: Compared::Not,
            elements: 0,
            changed: 0,
            relative: None,
            largest: None,
            at: None,
            non_finite: 0,
            rows_only: [0, 0],
            sums: Sums::default(),
        }
    }

    /// With what was summed.
    pub fn with(mut self, compared: Compared, sums: Sums) -> Change {
        let values = compared == Compared::Values;
        (self.compared, self.elements, self.changed, self.sums) = (compared, sums.elements, sums.changed, sums);
        self.non_finite = sums.non_finite;
        if values {
            self.relative = sums.relative();
            self.largest = Some(sums.largest.0);
            self.at =
                (sums.largest.0 > 0.0).then(|| index(self.shape[1].as_deref().unwrap_or_default(), sums.largest.1));
        }
        self
    }

    /// Whether it is in both and nothing of it differs.
    pub fn same(&self) -> bool {
        self.compared != Compared::Not && self.changed == 0 && self.rows_only == [0, 0]
    }

    /// Whether only one of the two has it.
    pub fn alone(&self) -> bool {
        self.shape.iter().any(Option::is_none)
    }
}

/// The place of an element in a shape.
fn index(shape: &[u64], element: u64) -> Vec<u64> {
    let mut rest = element;
    let mut all: Vec<u64> = shape
        .iter()
        .rev()
        .map(|size| {
            let at = rest % (*size).max(1);
            rest /= (*size).max(1);
            at
        })
        .collect();
    all.reverse();
    all
}

/// Rows that two shapes have in common, of one number of columns. None if they do not fit.
pub fn common(before: &[u64], after: &[u64]) -> Option<(u64, u64)> {
    let fit = before.get(1..) == after.get(1..);
    let ((one, cols), (other, _)) = (matrix(before), matrix(after));
    fit.then_some((one.min(other), cols))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_has_a_place_in_its_shape_and_grown_tensors_have_rows_in_common() {
        assert_eq!(index(&[4, 3, 5], 2 * 15 + 5 + 4), [2, 1, 4]);
        assert_eq!(index(&[7], 6), [6]);
        assert_eq!(common(&[96, 64], &[104, 64]), Some((96, 64)));
        assert_eq!(common(&[2, 3, 4], &[1, 3, 4]), Some((1, 12)));
        assert_eq!(common(&[5], &[8]), Some((5, 1)));
        assert_eq!(common(&[96, 64], &[96, 32]), None);
        assert_eq!(common(&[96], &[96, 1]), None);
    }
}
