//! The right factor in the order in which the tiles read it.

/// Columns of a panel: a cache line of fp32, and a whole number of vectors in every instruction set. That makes one packed
/// factor serve all of them.
pub(super) const PANEL: usize = 16;

/// One step of the rank within a panel.
pub(super) type Line = [f32; PANEL];

/// A right factor (rank x cols), cut into panels of 16 columns. A panel holds its `rank` lines one after another; the last
/// one is padded with zeros, which no kernel stores.
#[derive(Clone)]
pub struct Packed {
    data: Vec<f32>,
    /// Where the first panel begins in `data`: each line is then one cache line. A clone may be aligned otherwise, which
    /// costs a little speed only.
    start: usize,
    rank: usize,
    cols: usize,
}

impl Packed {
    /// Packs `right`, which is `rank` x `cols`, row-major.
    ///
    /// # Panics
    /// If `right` has another length.
    pub fn new(right: &[f32], rank: usize, cols: usize) -> Packed {
        assert_eq!(right.len(), rank * cols, "right factor, {rank} x {cols}");
        let length = cols.div_ceil(PANEL) * rank * PANEL;
        let mut data = vec![0.0; length + PANEL - 1];
        let start = data.as_ptr().align_offset(PANEL * size_of::<f32>()).min(PANEL - 1);
        let (lines, _) = data[start..start + length].as_chunks_mut::<PANEL>();
        if cols > 0 {
            for (k, row) in right.chunks_exact(cols).enumerate() {
                for (panel, columns) in row.chunks(PANEL).enumerate() {
                    lines[panel * rank + k][..columns.len()].copy_from_slice(columns);
                }
            }
        }
        Packed { data, start, rank, cols }
    }

    /// The rank: rows of the factor.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// Columns of the factor, and of W.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Bytes of memory that the packed factor takes.
    pub fn bytes(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }

    /// All lines: panel `p`, step `k` at `p * rank + k`.
    pub(super) fn lines(&self) -> &[Line] {
        self.data[self.start..].as_chunks::<PANEL>().0
    }
}

impl std::fmt::Debug for Packed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packed").field("rank", &self.rank).field("cols", &self.cols).finish_non_exhaustive()
    }
}
