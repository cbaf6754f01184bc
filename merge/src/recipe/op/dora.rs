//! Weight-decomposed adaptation: DoRA (Liu et al. 2024, arXiv:2402.09353, equation 5).

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use super::norm::dora_gain;
use crate::recipe::arithmetic::Arithmetic;
use crate::recipe::delta::Delta;
use crate::recipe::exact;
use crate::recipe::operand::{Input, Need, Operand, Value};
use crate::recipe::tile::{ExactRows, NoNorm, NoResult, Tile};
use crate::statistic::id::StatisticId;

/// Where DoRA's norms come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Norm {
    /// Each output is a row, and its norm is taken of the row.
    Rows,
    /// Each output is a column, and its norm is a statistic over all rows.
    Columns(StatisticId),
}

/// Which weight DoRA's norm is taken of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DoraNorm {
    /// The weight that stands so far plus the adapter's delta.
    #[default]
    Standing,
    /// The start weight plus the adapter's delta, as PEFT 0.21 does for two DoRAs of one model.
    Original,
}

/// `v = w + delta; w = (m / n) * v`, with `n` the L2 norm of each output of `v` (or of the start plus delta).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dora {
    /// The delta.
    pub delta: Delta,
    /// One magnitude for each output.
    pub magnitude: Operand,
    /// Where the norms come from.
    pub norm: Norm,
    /// Which weight they are taken of.
    pub of: DoraNorm,
}

impl Definition for Dora {
    fn delta(&self) -> Option<&Delta> {
        Some(&self.delta)
    }

    fn inputs(&self) -> Vec<Input<'_>> {
        let need = match self.norm {
            Norm::Rows => Need::PerRow,
            Norm::Columns(id) => Need::Derived(id),
        };
        vec![Input::new(&self.magnitude, need)]
    }

    fn wants_original(&self) -> bool {
        self.of == DoraNorm::Original && self.norm == Norm::Rows
    }

    fn finish<A: Arithmetic>(
        &self,
        arithmetic: &A,
        tile: &mut Tile<'_>,
        original: Option<&[f32]>,
        values: &[Value<'_, A::Right>],
    ) -> Result<(), NoResult> {
        let cols = tile.cols;
        if let Norm::Columns(_) = self.norm {
            arithmetic.scale_columns(tile.w, cols, values[0].plain());
            return Ok(());
        }
        for (i, (row, magnitude)) in tile.w.chunks_exact_mut(cols).zip(values[0].plain()).enumerate() {
            let squares = arithmetic.row_squares(original.map_or(&*row, |o| &o[i * cols..][..cols]));
            let gain = dora_gain(*magnitude, squares).ok_or_else(|| NoNorm {
                tensor: self.magnitude.source.name.clone(),
                output: tile.first + i as u64,
                norm: squares.sqrt(),
            })?;
            arithmetic.scale_row(row, gain);
        }
        Ok(())
    }

    fn exact(&self, tile: &mut ExactRows<'_>, original: Option<&[f64]>, values: &[&[f64]]) {
        let cols = tile.cols;
        let scale = |w: &mut f64, doubt: &mut f64, gain: f64, gain_doubt: f64| {
            *doubt = *doubt * gain.abs() + w.abs() * gain_doubt;
            *w *= gain;
        };
        let rows = tile.w.chunks_exact_mut(cols).zip(tile.doubt.chunks_exact_mut(cols));
        for (i, (row, doubts)) in rows.enumerate() {
            match self.norm {
                Norm::Columns(_) => {
                    let gains = values[0].iter().zip(values[1]);
                    row.iter_mut().zip(doubts).zip(gains).for_each(|((w, d), (gain, off))| scale(w, d, *gain, *off));
                }
                Norm::Rows => {
                    // The start has no doubt.
                    let of_doubts = if original.is_some() { 0.0 } else { exact::squares(doubts) };
                    let squares = exact::squares(original.map_or(&*row, |o| &o[i * cols..][..cols]));
                    let gain = exact::dora_gain(values[0][i], squares).unwrap_or(f64::NAN);
                    let off = exact::gain_doubt(gain, squares, of_doubts);
                    row.iter_mut().zip(doubts).for_each(|(w, d)| scale(w, d, gain, off));
                }
            }
        }
    }

    fn cost(&self) -> u64 {
        2
    }
}
