//! The order in which a low-rank update walks over W: the same for every instruction set, and without effect on the bits.
//!
//! The packed right factor is taken in blocks that stay in the second-level cache; within a block, W is walked by groups
//! of a few rows, whose left factor stays in the first. So every element of W is read and written once, along its row, and
//! the right factor is read from far memory once a call.

use shardfuse_merge::recipe::arithmetic;

use super::pack::{Line, PANEL, Packed};
use super::set::{Set, Strip};

/// What a block of the right factor may take, in bytes: half of the smallest second-level cache that is common.
const BLOCK_BYTES: usize = 128 << 10;

/// Rows of the widest strip.
const MAX_ROWS: usize = 8;

/// `W += scale * (left @ right)`, by the strips of `set`.
pub(super) fn low_rank(set: &Set, w: &mut [f32], left: &[f32], right: &Packed, scale: f32) {
    let (rank, cols) = (right.rank(), right.cols());
    if rank == 0 || cols == 0 {
        return arithmetic::low_rank(w, cols, left, &[], rank, scale);
    }
    assert_eq!(w.len() % cols, 0, "{} elements in rows of {cols}", w.len());
    assert_eq!(left.len(), w.len() / cols * rank, "left factor, {} x {rank}", w.len() / cols);

    // Two panels at least: the widest tiles take a pair.
    let panels_a_block = (BLOCK_BYTES / (rank * size_of::<Line>())).max(2);
    for (block, panels) in right.lines().chunks(panels_a_block * rank).enumerate() {
        let first = block * panels_a_block * PANEL;
        // Only the last panel of all can be short.
        let whole = (panels.len() / rank).min((cols - first) / PANEL);
        let (whole_panels, edge_panel) = panels.split_at(whole * rank);
        for (w, left) in w.chunks_mut(set.rows * cols).zip(left.chunks(set.rows * rank)) {
            if whole > 0 {
                let strip = Strip { w: &mut w[first..], stride: cols, left, panels: whole_panels, rank, scale };
                // SAFETY: `set` comes from a `Kernels`, which exists only where the CPU has the set's features.
                unsafe { (set.strip)(strip) }
            }
            if !edge_panel.is_empty() {
                edge(
                    set,
                    Strip { w: &mut w[first + whole * PANEL..], stride: cols, left, panels: edge_panel, rank, scale },
                );
            }
        }
    }
}

/// The last columns, fewer than a panel: done on a copy of full width, so that no strip ever reads or writes past a row.
fn edge(set: &Set, strip: Strip<'_>) {
    let Strip { w, stride, left, panels, rank, scale } = strip;
    let mut wide = [[0.0_f32; PANEL]; MAX_ROWS];
    let rows = left.len() / rank;
    let width = stride % PANEL;
    for (wide, row) in wide.iter_mut().zip(w.chunks(stride)) {
        wide[..width].copy_from_slice(&row[..width]);
    }
    let copy = Strip { w: wide[..rows].as_flattened_mut(), stride: PANEL, left, panels, rank, scale };
    // SAFETY: as in `low_rank`.
    unsafe { (set.strip)(copy) }
    for (wide, row) in wide.iter().zip(w.chunks_mut(stride)) {
        row[..width].copy_from_slice(&wide[..width]);
    }
}
