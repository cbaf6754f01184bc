//! The kinds of statistics: what a block's state is, and what the states give.

use serde::{Deserialize, Serialize};

use super::block::Block;
use super::column_squares;
use super::id::StatisticId;
use super::numbers::{numbers, to_bytes};
use super::scales::{self, Scales};
use super::survival::Sums;
use crate::base::scheme::claim::{Floats, Rule, Whole};
use crate::base::scheme::recode::Recoder;
use crate::base::scheme::stored::Start;
use crate::recipe::arithmetic::Arithmetic;

/// Bytes of fp32 of a block of a parameter that is encoded again, about.
const BLOCK: u64 = 64 << 20;

/// What is reduced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The sum of the squares of each column.
    ColumnSquares,
    /// The largest magnitude, and whether any value is another one than is stored: [`Whole`].
    Range,
    /// How much of a delta is left once the values are encoded again: [`Sums`].
    Survival {
        /// The formula of the scheme.
        rule: Rule,
        /// The statistic of the largest value, where one scale serves all values.
        range: Option<StatisticId>,
    },
    /// The sum of the scales of all blocks.
    Scales(Scales),
}

impl Kind {
    /// Rows of a block. Those of a parameter that is encoded again hold whole units.
    pub fn block_rows(self, start: &Start) -> u64 {
        let most = column_squares::BLOCK_ROWS as u64;
        let (_, cols) = start.matrix();
        match self {
            Kind::ColumnSquares | Kind::Scales(_) => most,
            Kind::Range => (BLOCK / 4 / cols.max(1)).clamp(1, most),
            Kind::Survival { rule, .. } => Recoder::of(start, rule).map_or(most, |recoder| {
                recoder.rows_of(BLOCK).min(recoder.unit().max(most / recoder.unit() * recoder.unit()))
            }),
        }
    }

    /// Bytes of a block's state, and of the value, over `cols` columns.
    pub fn bytes(self, cols: u64) -> u64 {
        match self {
            Kind::ColumnSquares => cols.saturating_mul(8),
            Kind::Range => 2 * 8,
            Kind::Survival { .. } => 3 * 8,
            Kind::Scales(_) => 8,
        }
    }

    /// Whether it is taken of the values that are stored, too.
    pub fn wants_before(self) -> bool {
        matches!(self, Kind::Range | Kind::Survival { .. })
    }

    /// Whether numbers may be a state: sums of squares and magnitudes are not below zero, or say what is wrong with the weights.
    pub fn may_be_state(self, state: &[f64]) -> bool {
        let is_size = |number: &f64| number.is_nan() || *number >= 0.0;
        match self {
            Kind::ColumnSquares | Kind::Range | Kind::Scales(_) => state.iter().all(is_size),
            Kind::Survival { .. } => state.iter().take(2).all(is_size),
        }
    }

    /// The state of a block: all of its rows.
    pub fn accumulate(
        self,
        arithmetic: &impl Arithmetic,
        floats: Floats<'_>,
        start: &Start,
        block: &Block<'_>,
    ) -> Vec<u8> {
        match self {
            Kind::ColumnSquares => {
                let mut sums = vec![0.0; start.matrix().1 as usize];
                arithmetic.add_column_squares(&mut sums, block.after);
                to_bytes(&sums)
            }
            Kind::Range => to_bytes(&range(block.before, block.after)),
            Kind::Survival { rule, .. } => match Recoder::of(start, rule) {
                Ok(recoder) => to_bytes(&Sums::of(&recoder, floats, block).numbers()),
                // A statistic that was not checked has no state of the right length.
                Err(_) => Vec::new(),
            },
            Kind::Scales(scales) => to_bytes(&[scales.sum(start.matrix().1, block.after)]),
        }
    }

    /// Folds the states of all blocks, given in block order, into the value.
    ///
    /// # Panics
    /// If a state does not have [`Self::bytes`] bytes.
    pub fn fold<'a>(self, cols: u64, states: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
        let states: Vec<Vec<f64>> = states.into_iter().map(numbers).collect();
        let states = states.iter().map(Vec::as_slice);
        to_bytes(&match self {
            Kind::ColumnSquares => column_squares::fold_blocks(cols as usize, states),
            Kind::Range => states.fold(vec![0.0f64; 2], |all, state| vec![all[0].max(state[0]), all[1].max(state[1])]),
            Kind::Survival { .. } => states.map(Sums::read).fold(Sums::default(), Sums::and).numbers().to_vec(),
            Kind::Scales(_) => vec![scales::fold(states.flatten().copied())],
        })
    }
}

/// The largest magnitude, and 1 if any value changed.
fn range(before: &[f32], after: &[f32]) -> [f64; 2] {
    let largest = after.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    [largest.into(), f64::from(u8::from(before != after))]
}

/// What a range says.
///
/// # Panics
/// If it is none.
pub fn whole(value: &[f64]) -> Whole {
    Whole { largest: value[0] as f32, changed: value[1] != 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;
    use crate::tensor::float::Float;

    const SCALES: Kind = Kind::Scales(Scales { block: 64, from: Float::BF16, down: false });
    const SURVIVAL: Kind = Kind::Survival { rule: Rule(0), range: None };

    #[test]
    fn a_state_of_sizes_has_nothing_below_zero() {
        for kind in [Kind::ColumnSquares, Kind::Range, SCALES] {
            assert!(kind.may_be_state(&[0.0, 2.5]) && kind.may_be_state(&[f64::NAN]), "{kind:?}");
            assert!(!kind.may_be_state(&[-1.0]), "{kind:?}");
        }
        assert!(SURVIVAL.may_be_state(&[1.0, 1.0, -1.0]), "a delta may be turned round");
        assert!(!SURVIVAL.may_be_state(&[1.0, -1.0, 1.0]));
    }

    #[test]
    fn a_range_tells_the_largest_and_whether_any_changed() {
        assert_eq!(whole(&range(&[1.0, -3.0], &[1.0, -3.0])), Whole { largest: 3.0, changed: false });
        assert_eq!(whole(&range(&[1.0, -3.0], &[2.0, -3.0])), Whole { largest: 3.0, changed: true });
    }

    /// A narrower block of rows would cut blocks of values that [`Scales::divide`] takes.
    #[test]
    fn scales_are_added_up_over_the_runs_of_rows_that_blocks_must_not_cross() {
        let shape = vec![5000, 7];
        let weight = Source { name: "w".into(), object: ObjectId(0), offset: 0, dtype: Dtype::BF16, shape };
        assert_eq!(SCALES.block_rows(&Start::plain(weight).unwrap()), column_squares::BLOCK_ROWS as u64);
    }
}
