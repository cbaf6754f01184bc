//! The definition itself, for CPUs that have nothing wider, and as the first of the sets that tests compare.

use shardfuse_merge::recipe::arithmetic;
use shardfuse_merge::tensor::float;

use super::pack::PANEL;
use super::set::{Set, Strip, compiled_for};

pub(super) const SET: Set =
    Set { name: "scalar", rows: 1, strip, decode: float::decode, encode: float::encode, shared: SHARED };

compiled_for!();

fn strip(strip: Strip<'_>) {
    let Strip { w, left, panels, rank, scale, .. } = strip;
    // A panel is the row-major right factor of 16 columns of W.
    for (w, panel) in w.chunks_exact_mut(PANEL).zip(panels.chunks_exact(rank)) {
        arithmetic::low_rank(w, PANEL, left, panel.as_flattened(), rank, scale);
    }
}
