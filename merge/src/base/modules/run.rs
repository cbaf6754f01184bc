//! Rows of a stored tensor that are rows of a parameter.

/// Rows that lie one after another in a stored tensor, and which rows of a parameter they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The first of them in the stored tensor.
    pub at: u64,
    /// The first of them in the parameter.
    pub first: u64,
    /// From one to the next in the parameter.
    pub step: u64,
    /// How many they are.
    pub count: u64,
}

/// In which order a tensor has the rows of its parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Order {
    /// All rows of the first part, then those of the second, and so on [`core_model_loading.py`, `Chunk(dim=0)`].
    #[default]
    Parts,
    /// The first row of each part, then the second of each, and so on [`Interleave(dim=0)` before `Chunk(dim=0)`].
    Turns,
    /// As [`Order::Parts`], but in these parts row `i` of a head is beside row `i + half` [`PermuteForRope`].
    Pairs {
        /// How many heads a part has.
        heads: u64,
        /// The numbers of these parts.
        of: Vec<usize>,
    },
    /// As [`Order::Parts`], but the rows of the parts are in these proportions [`Split(dim=0)`].
    Shares(Vec<u64>),
}

impl Order {
    /// Where the rows of a part lie in a tensor of so many rows; `None` if it has no such parts.
    pub fn runs(&self, part: usize, parts: usize, rows: u64) -> Option<Vec<Run>> {
        if let Order::Shares(shares) = self {
            return share(shares, part, rows);
        }
        let parts = parts as u64;
        if rows == 0 || !rows.is_multiple_of(parts) {
            return None;
        }
        let (number, count) = (part as u64, rows / parts);
        match self {
            Order::Turns => {
                Some((0..count).map(|row| Run { at: row * parts + number, first: row, step: 1, count: 1 }).collect())
            }
            Order::Pairs { heads, of } if of.contains(&part) => {
                if *heads == 0 || !count.is_multiple_of(2 * heads) {
                    return None;
                }
                let half = count / heads / 2;
                let pair = |head: u64, row: u64| Run {
                    at: number * count + 2 * (head * half + row),
                    first: head * 2 * half + row,
                    step: half,
                    count: 2,
                };
                Some((0..*heads).flat_map(|head| (0..half).map(move |row| pair(head, row))).collect())
            }
            Order::Parts | Order::Pairs { .. } | Order::Shares(_) => {
                Some(vec![Run { at: number * count, first: 0, step: 1, count }])
            }
        }
    }
}

/// The rows of one of several parts that differ in size.
fn share(shares: &[u64], part: usize, rows: u64) -> Option<Vec<Run>> {
    let sum = shares.iter().try_fold(0u64, |sum, share| sum.checked_add(*share)).filter(|sum| *sum > 0)?;
    if rows == 0 || !rows.is_multiple_of(sum) {
        return None;
    }
    let unit = rows / sum;
    let before: u64 = shares.get(..part)?.iter().sum();
    Some(vec![Run { at: before * unit, first: 0, step: 1, count: shares.get(part)? * unit }])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The parameter's row at each row of the stored tensor, for one part.
    fn rows(order: &Order, part: usize, parts: usize, rows: u64) -> Vec<(u64, u64)> {
        let runs = order.runs(part, parts, rows).unwrap();
        runs.iter().flat_map(|run| (0..run.count).map(|i| (run.at + i, run.first + i * run.step))).collect()
    }

    #[test]
    fn parts_follow_each_other_or_take_turns() {
        assert_eq!(rows(&Order::Parts, 1, 3, 6), [(2, 0), (3, 1)]);
        assert_eq!(rows(&Order::Turns, 1, 2, 6), [(1, 0), (3, 1), (5, 2)]);
    }

    #[test]
    fn pairs_are_the_two_halves_of_a_head() {
        // [heads, half, 2] as [heads, 2, half], for two heads of four rows.
        let pairs = Order::Pairs { heads: 2, of: vec![0, 1] };
        let stored = [(0, 0), (1, 2), (2, 1), (3, 3), (4, 4), (5, 6), (6, 5), (7, 7)];
        assert_eq!(rows(&pairs, 0, 3, 24), stored);
        assert_eq!(rows(&pairs, 1, 3, 24), stored.map(|(at, row)| (at + 8, row)));
        assert_eq!(rows(&pairs, 2, 3, 24)[..2], [(16, 0), (17, 1)], "the third part is as it is");
    }

    #[test]
    fn parts_may_have_different_sizes() {
        // Two heads of queries, and one each of keys and values.
        let shares = Order::Shares(vec![2, 1, 1]);
        assert_eq!(rows(&shares, 0, 3, 8), [(0, 0), (1, 1), (2, 2), (3, 3)]);
        assert_eq!(rows(&shares, 2, 3, 8), [(6, 0), (7, 1)]);
        assert_eq!(shares.runs(0, 3, 10), None, "no heads of whole rows");
        assert_eq!(shares.runs(3, 3, 8), None);
        assert_eq!(Order::Shares(vec![0, 0]).runs(0, 2, 8), None);
        assert_eq!(Order::Shares(vec![u64::MAX, 1]).runs(0, 2, 8), None);
    }

    #[test]
    fn rows_that_are_no_such_parts_are_none() {
        assert_eq!(Order::Parts.runs(0, 3, 8), None);
        assert_eq!(Order::Pairs { heads: 3, of: vec![0] }.runs(0, 1, 8), None);
        assert_eq!(Order::Pairs { heads: 0, of: vec![0] }.runs(0, 1, 8), None);
    }
}
