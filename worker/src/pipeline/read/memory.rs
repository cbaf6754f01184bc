//! What operands take in memory while they are read and laid out.

use shardfuse_merge::DtypeExt;
use shardfuse_merge::recipe::{Delta, Input, Need};

use super::coalesce::MOST;
use super::inputs::AT_A_TIME;
use super::scattered::is_scattered;

/// The rights of a delta: the sum of their ranks.
pub fn ranks(delta: &Delta) -> u64 {
    let rights = delta.inputs().into_iter().filter(|input| input.need == Need::SameColumns);
    rights.map(|input| input.operand.view.rows).sum()
}

/// The width of the ranges of columns in which a delta's right factors are read, with `loading` bytes for loading them;
/// `None` if they are kept whole. Laying one out takes as much again beside the place it is kept in.
pub fn range_width(delta: &Delta, cols: u64, loading: u64) -> Option<u64> {
    let ranks = ranks(delta);
    if 4 * ranks * cols <= loading {
        return None;
    }
    // Raw, decoded and packed values of two ranges fit at a time.
    let width = loading / (16 * ranks) / 64 * 64;
    Some(width.max(64).min(cols))
}

/// Bytes of memory that a part of `rows` rows holds of an input: what is read, while it is read and laid out. Right factors
/// count where they are kept `whole`.
pub fn held(input: &Input<'_>, rows: u64, cols: u64, whole: bool) -> u64 {
    let view = input.operand.view;
    match input.need {
        Need::SameRows => {
            // Rows that are stored as columns are read with what lies between them. Scattered ones are read elsewhere.
            let stored = view.elements() * input.operand.source.dtype.bytes().unwrap_or(4);
            let alone = view.col_stride == 1 || is_scattered(&view);
            let between = if alone { 0 } else { stored.min(AT_A_TIME as u64 * MOST) };
            rows * view.cols * 12 + between
        }
        Need::SameColumns if whole => 4 * view.elements(),
        Need::SameColumns => 0,
        Need::Same => rows * cols * 8,
        Need::Rows(list) => (list.len() as u64).min(rows) * cols * 8,
        Need::PerRow => rows * 8,
        Need::PerColumn => cols * 8,
        Need::Derived(_) => cols * 20,
    }
}
