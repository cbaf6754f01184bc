//! A tensor's recipe in f64, for a batch of its rows.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::Result;
use shardfuse_merge::fuse::exact;
use shardfuse_merge::inventory::Source;
use shardfuse_merge::recipe::{DoraNorm, Factor, Fuse, LowRank, MeasureId, Norm, Op, Step, matrix};

use super::reader::Reader;

/// Bytes of f64 values of one block of a factor; a single stored row may be larger.
const BLOCK: u64 = 8 << 20;

/// One tensor in f64. It keeps vectors (magnitudes and gains), and reads factors in blocks each time.
pub struct Exact<'a> {
    reader: &'a Reader<'a>,
    magnitudes: HashMap<(u32, u64), Arc<Vec<f64>>>,
    gains: HashMap<MeasureId, Arc<Vec<f64>>>,
}

impl<'a> Exact<'a> {
    pub fn new(reader: &'a Reader<'a>) -> Self {
        Self { reader, magnitudes: HashMap::new(), gains: HashMap::new() }
    }

    /// Rows (ascending) of a recipe's result.
    pub async fn rows(&mut self, fuse: &Fuse, rows: &[u64]) -> Result<Vec<Vec<f64>>> {
        let (_, cols) = matrix(&fuse.start.shape);
        let start = self.reader.rows(&fuse.start, rows, cols).await?;
        let mut w = start.clone();
        for step in &fuse.steps {
            self.step(step, rows, &start, &mut w).await?;
        }
        Ok(w)
    }

    async fn step(&mut self, step: &Step, rows: &[u64], start: &[Vec<f64>], w: &mut [Vec<f64>]) -> Result<()> {
        let cols = w.first().map_or(0, Vec::len) as u64;
        match &step.op {
            Op::Add(delta) => self.add(delta, rows, w).await?,
            Op::AddScaled { source, scale } => {
                let added = self.reader.rows(source, rows, cols).await?;
                for (w, v) in w.iter_mut().flatten().zip(added.iter().flatten()) {
                    *w += f64::from(*scale) * v;
                }
            }
            Op::SetRows { rows: set, source } => {
                for (row, w) in rows.iter().zip(w) {
                    if let Some(i) = set.iter().position(|r| r == row) {
                        *w = self.reader.block(source, i as u64, i as u64 + 1, cols).await?;
                    }
                }
            }
            Op::Dora { delta, magnitude, norm: Norm::Measured(id), .. } => {
                let magnitudes = self.magnitudes(magnitude).await?;
                let gains = self.gains(*id, &magnitudes).await?;
                self.add(delta, rows, w).await?;
                w.iter_mut().for_each(|w| exact::dora_columns(w, &gains));
            }
            Op::Dora { delta, magnitude, norm: Norm::Rows, of } => {
                let magnitudes = self.magnitudes(magnitude).await?;
                let original = match of {
                    DoraNorm::Standing => None,
                    DoraNorm::Original => {
                        let mut v = start.to_vec();
                        self.add(delta, rows, &mut v).await?;
                        Some(v)
                    }
                };
                self.add(delta, rows, w).await?;
                for (i, row) in rows.iter().enumerate() {
                    let squares = exact::squares(original.as_ref().map_or(&w[i], |v| &v[i]));
                    let gain = exact::dora_gain(magnitudes[*row as usize], squares).unwrap_or(f64::NAN);
                    w[i].iter_mut().for_each(|w| *w *= gain);
                }
            }
        }
        Ok(())
    }

    /// `w += scale * left @ right`, the right factor block by block.
    async fn add(&self, delta: &LowRank, rows: &[u64], w: &mut [Vec<f64>]) -> Result<()> {
        let (rank, cols) = (delta.rank, w.first().map_or(0, Vec::len) as u64);
        let left = self.left(&delta.left, rows, rank).await?;
        let (stored_rows, stored_cols) = if delta.right.transposed { (cols, rank) } else { (rank, cols) };
        for (from, to) in blocks(stored_rows, stored_cols) {
            let block = self.reader.block(&delta.right.source, from, to, stored_cols).await?;
            add_block(w, &left, &block, from as usize..to as usize, delta);
        }
        Ok(())
    }

    /// Rows of the left factor, `rank` values each.
    async fn left(&self, left: &Factor, rows: &[u64], rank: u64) -> Result<Vec<Vec<f64>>> {
        if !left.transposed {
            return self.reader.rows(&left.source, rows, rank).await;
        }
        let all = left.source.elements() / rank;
        let mut found = vec![Vec::with_capacity(rank as usize); rows.len()];
        for (from, to) in blocks(rank, all) {
            let block = self.reader.block(&left.source, from, to, all).await?;
            for k in block.chunks_exact(all as usize) {
                for (row, found) in rows.iter().zip(&mut found) {
                    found.push(k[*row as usize]);
                }
            }
        }
        Ok(found)
    }

    /// m / n of every column, over all rows.
    async fn gains(&mut self, id: MeasureId, magnitudes: &[f64]) -> Result<Arc<Vec<f64>>> {
        if let Some(gains) = self.gains.get(&id) {
            return Ok(Arc::clone(gains));
        }
        let measure = self.reader.plan.measures[id.0 as usize].clone();
        let fuse = Fuse { start: measure.start, start_adapter: None, steps: measure.steps, keep_non_finite: false };
        let (rows, cols) = matrix(&fuse.start.shape);
        let mut sums = vec![0.0; cols as usize];
        for (from, to) in blocks(rows, cols) {
            let batch: Vec<u64> = (from..to).collect();
            for v in Box::pin(self.rows(&fuse, &batch)).await? {
                sums.iter_mut().zip(v).for_each(|(s, v)| *s += v * v);
            }
        }
        let gains =
            sums.iter().zip(magnitudes).map(|(s, m)| exact::dora_gain(*m, *s).unwrap_or(f64::NAN)).collect::<Vec<_>>();
        let gains = Arc::new(gains);
        self.gains.insert(id, Arc::clone(&gains));
        Ok(gains)
    }

    async fn magnitudes(&mut self, source: &Source) -> Result<Arc<Vec<f64>>> {
        let key = (source.object.0, source.offset);
        if let Some(values) = self.magnitudes.get(&key) {
            return Ok(Arc::clone(values));
        }
        let values = Arc::new(self.reader.block(source, 0, 1, source.elements()).await?);
        self.magnitudes.insert(key, Arc::clone(&values));
        Ok(values)
    }
}

/// Adds what the rows `stored` of the right factor, as they are stored, give.
fn add_block(w: &mut [Vec<f64>], left: &[Vec<f64>], block: &[f64], stored: Range<usize>, delta: &LowRank) {
    let scale = f64::from(delta.scale);
    if delta.right.transposed {
        let right = transposed(block, delta.rank as usize);
        for (w, left) in w.iter_mut().zip(left) {
            exact::low_rank_row(&mut w[stored.clone()], left, &right, scale);
        }
    } else {
        for (w, left) in w.iter_mut().zip(left) {
            exact::low_rank_row(w, &left[stored.clone()], block, scale);
        }
    }
}

/// `rows` rows of `cols` values in blocks: first row, and the one behind the last.
fn blocks(rows: u64, cols: u64) -> impl Iterator<Item = (u64, u64)> {
    let each = (BLOCK / (8 * cols).max(1)).max(1);
    (0..rows).step_by(each as usize).map(move |from| (from, rows.min(from + each)))
}

fn transposed(block: &[f64], cols: usize) -> Vec<f64> {
    (0..cols).flat_map(|c| block.iter().skip(c).step_by(cols).copied()).collect()
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::Dtype;
    use shardfuse_merge::inventory::ObjectId;

    use super::*;

    #[test]
    fn blocks_cover_every_row_once_however_wide_a_row_is() {
        assert_eq!(blocks(5, 1 << 19).collect::<Vec<_>>(), [(0, 2), (2, 4), (4, 5)]);
        assert_eq!(blocks(2, 1 << 30).collect::<Vec<_>>(), [(0, 1), (1, 2)]);
        assert_eq!(blocks(3, 1).collect::<Vec<_>>(), [(0, 3)]);
    }

    #[test]
    fn block_by_block_gives_the_product_however_the_right_factor_is_stored() {
        let (rank, cols) = (3, 4);
        let left = vec![vec![1.0, -2.0, 0.5], vec![3.0, 0.0, 4.0]];
        // right[k][c] = 10 k + c, row by row or column by column.
        let by_rows: Vec<f64> = (0..rank).flat_map(|k| (0..cols).map(move |c| (10 * k + c) as f64)).collect();
        let by_cols: Vec<f64> = (0..cols).flat_map(|c| (0..rank).map(move |k| (10 * k + c) as f64)).collect();
        let product = |left: &[f64]| -> Vec<f64> {
            (0..cols).map(|c| 1.0 + 2.0 * (0..rank).map(|k| left[k] * (10 * k + c) as f64).sum::<f64>()).collect()
        };
        let want: Vec<Vec<f64>> = left.iter().map(|l| product(l)).collect();
        for (stored, rows, width, transposed) in [(&by_rows, rank, cols, false), (&by_cols, cols, rank, true)] {
            let delta = low_rank(rank as u64, transposed);
            for each in 1..=rows {
                let mut w = vec![vec![1.0; cols]; left.len()];
                for from in (0..rows).step_by(each) {
                    let to = rows.min(from + each);
                    add_block(&mut w, &left, &stored[from * width..to * width], from..to, &delta);
                }
                assert_eq!(w, want, "{each} rows at a time, transposed: {transposed}");
            }
        }
    }

    fn low_rank(rank: u64, transposed: bool) -> LowRank {
        let source = Source { object: ObjectId(0), name: "f".into(), offset: 0, dtype: Dtype::F32, shape: vec![] };
        let factor = |transposed| Factor { source: source.clone(), transposed };
        LowRank { left: factor(false), right: factor(transposed), rank, scale: 2.0 }
    }

    #[test]
    fn a_transposed_block_has_its_columns_as_rows() {
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    }
}
