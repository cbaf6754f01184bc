//! Views that take a little of every row: the B of stacked experts has the columns of one expert far apart.
//!
//! Such a tensor is read once and kept as it is stored, since each of many views would read all of it. One that is too large to be
//! kept is read in pieces for each view.

use std::sync::Arc;

use shardfuse_merge::inventory::Source;
use shardfuse_merge::tensor::View;

use super::coalesce::MOST;
use super::element::size_of;
use super::reader::Reader;
use crate::Failure;
use crate::pipeline::threads::Threads;

/// Whether a view has neither rows nor columns that lie side by side.
pub fn is_scattered(view: &View) -> bool {
    let apart = |count: u64, stride: u64| count > 1 && stride > 1;
    apart(view.rows, view.row_stride) && apart(view.cols, view.col_stride)
}

impl Reader<'_> {
    /// The elements of scattered views of one tensor as they are stored, each row-major, behind one another.
    pub(super) async fn scattered(self, source: &Source, views: &[View]) -> Result<Vec<u8>, Failure> {
        let size = size_of(source)?;
        let mut all = Vec::with_capacity((views.iter().map(View::elements).sum::<u64>() * size) as usize);
        if source.bytes() <= self.shared.tensors.limit() {
            let key = (self.inputs.version(source.object)?, source.offset);
            let read = self.inputs.read(source.object, source.offset, vec![0; source.bytes() as usize]);
            let whole: Arc<Vec<u8>> = self.shared.tensors.get(key, source.bytes(), read).await?;
            let views = views.to_vec();
            let pick_all = move |_: &Threads| {
                views.iter().for_each(|view| pick(view, size, 0, &whole, &mut all));
                Ok(all)
            };
            return self.shared.compute(pick_all).await;
        }
        for view in views {
            // A few at a time, whatever number of parts wants some.
            let _turn = self.shared.picking.acquire().await;
            let turned = view.row_stride < view.col_stride;
            let by_lines = if turned { view.transposed() } else { *view };
            let lines = (MOST / (by_lines.row_stride * size)).max(1);
            let mut picked = Vec::new();
            for first in (0..by_lines.rows).step_by(lines as usize) {
                let some = by_lines.rows(first..(first + lines).min(by_lines.rows));
                let end = some.end().unwrap_or(some.offset);
                let bytes = vec![0; ((end - some.offset) * size) as usize];
                let read = self.inputs.read(source.object, source.offset + some.offset * size, bytes).await?;
                pick(&some, size, some.offset, &read, &mut picked);
            }
            // What was picked lies by lines, without gaps.
            let packed = View::of(&[by_lines.rows, by_lines.cols]);
            pick(&if turned { packed.transposed() } else { packed }, size, 0, &picked, &mut all);
        }
        Ok(all)
    }
}

/// Appends the elements of a view, row-major. `stored` begins with the element `first`.
fn pick(view: &View, size: u64, first: u64, stored: &[u8], all: &mut Vec<u8>) {
    let size = size as usize;
    for row in 0..view.rows {
        let begin = (view.offset - first + row * view.row_stride) as usize * size;
        let step = view.col_stride as usize * size;
        for col in 0..view.cols as usize {
            all.extend_from_slice(&stored[begin + col * step..][..size]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_picked_row_by_row() {
        // [3, 2 * 4]: the columns of expert 1 of 4.
        let stored: Vec<u8> = (0..24).collect();
        let view = View { rows: 3, cols: 2, row_stride: 8, col_stride: 4, offset: 1 };
        assert!(is_scattered(&view));
        let mut all = Vec::new();
        pick(&view, 1, 0, &stored, &mut all);
        assert_eq!(all, [1, 5, 9, 13, 17, 21]);
        all.clear();
        pick(&view.rows(1..3), 1, 9, &stored[9..], &mut all);
        assert_eq!(all, [9, 13, 17, 21]);
        all.clear();
        pick(&view.transposed(), 1, 0, &stored, &mut all);
        assert_eq!(all, [1, 9, 17, 5, 13, 21]);
    }

    #[test]
    fn rows_or_columns_that_lie_side_by_side_are_not_scattered() {
        for view in
            [View::of(&[3, 8]), View::of(&[3, 8]).columns(2..4), View::of(&[3, 8]).transposed(), View::vector(5)]
        {
            assert!(!is_scattered(&view), "{view:?}");
        }
    }
}
