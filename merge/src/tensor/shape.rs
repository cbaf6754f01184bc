//! Shapes as matrices.

/// The matrix of a shape: rows are the first dimension, columns the product of the others. A vector is `[n, 1]`, a scalar
/// `[1, 1]`.
pub fn matrix(shape: &[u64]) -> (u64, u64) {
    match shape {
        [] => (1, 1),
        [rows, rest @ ..] => (*rows, rest.iter().product()),
    }
}
