//! A 2-D reading of a stored tensor.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::shape::matrix;

/// A matrix within a stored tensor, in elements: element `(i, j)` is the stored element
/// `offset + i * row_stride + j * col_stride`.
///
/// Transposes, the slice of one expert and interleaved rows are all views of one tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct View {
    /// Rows.
    pub rows: u64,
    /// Columns.
    pub cols: u64,
    /// Elements from one row to the next.
    pub row_stride: u64,
    /// Elements from one column to the next.
    pub col_stride: u64,
    /// The first element.
    pub offset: u64,
}

/// The order of a view whose elements lie side by side, without gaps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Row after row.
    RowMajor,
    /// Column after column: what is stored is the transpose.
    ColumnMajor,
}

impl View {
    /// The whole of a tensor as a matrix, row-major ([`matrix`]).
    pub fn of(shape: &[u64]) -> View {
        let (rows, cols) = matrix(shape);
        View { rows, cols, row_stride: cols, col_stride: 1, offset: 0 }
    }

    /// The whole of a tensor as a column of `n` values, whatever its shape.
    pub fn vector(n: u64) -> View {
        View { rows: n, cols: 1, row_stride: 1, col_stride: 1, offset: 0 }
    }

    /// The transpose.
    pub fn transposed(self) -> View {
        View {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            offset: self.offset,
        }
    }

    /// Some of its rows.
    ///
    /// # Panics
    /// If the rows are not rows of the view.
    pub fn rows(self, rows: Range<u64>) -> View {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        View { rows: rows.end - rows.start, offset: self.offset + rows.start * self.row_stride, ..self }
    }

    /// Rows that are equally far apart: `count` of them, every `step`th one from `first` on.
    ///
    /// # Panics
    /// If the rows are not rows of the view.
    pub fn every(self, first: u64, step: u64, count: u64) -> View {
        let last = count.checked_sub(1).map_or(0, |more| first + more * step);
        assert!(last < self.rows.max(1), "row {last} of {}", self.rows);
        View { rows: count, row_stride: step * self.row_stride, offset: first * self.row_stride + self.offset, ..self }
    }

    /// Some of its columns.
    ///
    /// # Panics
    /// If the columns are not columns of the view.
    pub fn columns(self, columns: Range<u64>) -> View {
        self.transposed().rows(columns).transposed()
    }

    /// The number of elements.
    pub fn elements(&self) -> u64 {
        self.rows * self.cols
    }

    /// One past the last stored element that it reads; `None` if that overflows.
    pub fn end(&self) -> Option<u64> {
        if self.rows == 0 || self.cols == 0 {
            return Some(self.offset);
        }
        let last_row = (self.rows - 1).checked_mul(self.row_stride)?;
        let last_col = (self.cols - 1).checked_mul(self.col_stride)?;
        self.offset.checked_add(last_row)?.checked_add(last_col)?.checked_add(1)
    }

    /// The order of its elements, if nothing lies between them.
    pub fn order(&self) -> Option<Order> {
        match (self.row_stride, self.col_stride) {
            (stride, 1) if stride == self.cols => Some(Order::RowMajor),
            (1, stride) if stride == self.rows => Some(Order::ColumnMajor),
            _ => None,
        }
    }

    /// The stored elements that must be read for all of it, as ranges in the order of its lines. Lines that touch each
    /// other are one range.
    pub fn ranges(&self) -> Vec<Range<u64>> {
        if self.rows == 0 || self.cols == 0 {
            return Vec::new();
        }
        let by_rows = self.by_rows();
        let span = (by_rows.cols - 1) * by_rows.col_stride + 1;
        if by_rows.rows == 1 || by_rows.row_stride == span {
            let whole = self.offset..self.offset + (by_rows.rows - 1) * by_rows.row_stride + span;
            return vec![whole];
        }
        (0..by_rows.rows).map(|i| self.offset + i * by_rows.row_stride).map(|at| at..at + span).collect()
    }

    /// Puts what [`Self::ranges`] read, decoded and behind one another, into the order of the view: row-major.
    ///
    /// # Panics
    /// If `read` is shorter than the ranges.
    pub fn gather(&self, read: Vec<f32>) -> Vec<f32> {
        if self.rows == 0 || self.cols == 0 {
            return Vec::new();
        }
        let by_rows = self.by_rows();
        let span = ((by_rows.cols - 1) * by_rows.col_stride + 1) as usize;
        // Lines follow each other without a gap in what was read.
        let (lines, each, step) = (by_rows.rows as usize, by_rows.cols as usize, by_rows.col_stride as usize);
        let packed = if step <= 1 {
            read
        } else {
            (0..lines).flat_map(|line| read[line * span..][..span].iter().step_by(step).copied()).collect()
        };
        match self.is_by_rows() {
            true => packed,
            false => transpose(&packed, lines, each),
        }
    }

    /// The view whose rows are its lines.
    fn by_rows(&self) -> View {
        if self.is_by_rows() { *self } else { self.transposed() }
    }

    /// Whether rows are read as lines, rather than columns.
    fn is_by_rows(&self) -> bool {
        match self {
            View { rows: 1, .. } => true,
            View { cols: 1, .. } => false,
            View { col_stride: 1, .. } => true,
            View { row_stride: 1, .. } => false,
            _ => self.row_stride >= self.col_stride,
        }
    }
}

/// [rows, cols] to [cols, rows].
fn transpose(values: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    const TILE: usize = 32;
    let mut out = vec![0.0; values.len()];
    for r0 in (0..rows).step_by(TILE) {
        for c0 in (0..cols).step_by(TILE) {
            for r in r0..(r0 + TILE).min(rows) {
                for c in c0..(c0 + TILE).min(cols) {
                    out[c * rows + r] = values[r * cols + c];
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn element(view: &View, stored: &[f32], i: u64, j: u64) -> f32 {
        stored[(view.offset + i * view.row_stride + j * view.col_stride) as usize]
    }

    proptest! {
        /// Reading by ranges and putting in order gives each element where the view's formula says.
        #[test]
        fn gathered_ranges_are_the_elements_of_the_view(
            rows in 1..40u64, cols in 1..40u64, row_gap in 0..4u64, col_step in 1..4u64, offset in 0..9u64,
            transposed: bool,
        ) {
            let row_stride = (cols - 1) * col_step + 1 + row_gap;
            let mut view = View { rows, cols, row_stride, col_stride: col_step, offset };
            if transposed {
                view = view.transposed();
            }
            let stored: Vec<f32> = (0..view.end().unwrap()).map(|i| i as f32).collect();
            for view in [view, view.rows(0..view.rows.div_ceil(2)), view.columns(view.cols / 2..view.cols)] {
                let read: Vec<f32> =
                    view.ranges().iter().flat_map(|r| stored[r.start as usize..r.end as usize].iter().copied()).collect();
                let got = view.gather(read);
                let expected: Vec<f32> = (0..view.rows)
                    .flat_map(|i| (0..view.cols).map(move |j| (i, j)))
                    .map(|(i, j)| element(&view, &stored, i, j))
                    .collect();
                prop_assert_eq!(got, expected);
            }
        }
    }

    #[test]
    fn lines_that_touch_are_one_range() {
        let one = |range: Range<u64>| vec![range];
        assert_eq!(View::of(&[3, 4, 5]).ranges(), one(0..60));
        assert_eq!(View::of(&[3, 4]).transposed().ranges(), one(0..12));
        assert_eq!(View::of(&[3, 4]).columns(1..3).ranges(), [1..3, 5..7, 9..11]);
        assert_eq!(View::of(&[3, 4]).rows(1..3).transposed().ranges(), one(4..12));
        assert_eq!(View { rows: 3, cols: 1, row_stride: 5, col_stride: 1, offset: 2 }.ranges(), one(2..13));
        assert!(View::of(&[0, 4]).ranges().is_empty());
    }

    #[test]
    fn only_a_view_without_gaps_has_an_order() {
        let view = View::of(&[3, 4]);
        assert_eq!(view.order(), Some(Order::RowMajor));
        assert_eq!(view.transposed().order(), Some(Order::ColumnMajor));
        assert_eq!(view.rows(1..3).order(), Some(Order::RowMajor));
        assert_eq!(view.columns(1..3).order(), None);
    }

    #[test]
    fn an_end_that_overflows_is_no_end() {
        let huge = View { rows: u64::MAX, cols: 2, row_stride: 2, col_stride: 1, offset: 0 };
        assert_eq!(huge.end(), None);
        assert_eq!(View { rows: 0, ..huge }.end(), Some(0));
    }
}
