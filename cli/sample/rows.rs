//! Which rows are sampled, and how many at a time.

/// Bytes of f64 values of one batch of rows; a single row may be larger.
const BATCH: u64 = 8 << 20;

/// Rows of one batch.
pub fn batch_rows(cols: u64) -> usize {
    (BATCH / (8 * cols).max(1)).max(1) as usize
}

/// `model.layers.*.self_attn.q_proj.weight`.
pub fn kind(name: &str) -> String {
    name.split('.').map(|p| if p.bytes().all(|b| b.is_ascii_digit()) { "*" } else { p }).collect::<Vec<_>>().join(".")
}

/// At most `n` of `rows` rows, first and last among them.
pub fn spread(rows: u64, n: u64) -> Vec<u64> {
    let n = n.min(rows);
    match n {
        0 => Vec::new(),
        1 => vec![0],
        _ => (0..n).map(|i| (u128::from(i) * u128::from(rows - 1) / u128::from(n - 1)) as u64).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sampled_rows_hold_the_first_and_the_last() {
        assert_eq!(spread(10, 3), [0, 4, 9]);
        assert_eq!(spread(2, 8), [0, 1]);
        assert_eq!(spread(5, 1), [0]);
        assert!(spread(0, 4).is_empty());
    }
}
