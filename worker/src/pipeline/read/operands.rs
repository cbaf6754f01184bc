//! Operands: read, upcast to fp32, laid out for the kernels. Right factors are kept while neighbouring parts need them.
//!
//! A right factor [rank, cols] serves every row of a tensor and is kept. Of everything else only what a part needs is read.
//! Right factors larger than the share for loading are not kept whole: they are read by ranges of columns, once for each
//! part.

use std::ops::Range;
use std::sync::Arc;

use shardfuse_merge::Kind;
use shardfuse_merge::inventory::Source;
use shardfuse_merge::recipe::{Delta, Need, Operand};
use shardfuse_merge::tensor::float::Float;
use shardfuse_merge::tensor::{View, number};

use super::coalesce::GAP;
use super::element::size_of;
use super::kept::RightFactor;
use super::memory::ranks;
use super::reader::Reader;
use super::scattered::is_scattered;
use super::version::Version;
use crate::Failure;
use crate::device::cpu::Kernels;
use crate::pipeline::flow::Share;
use crate::pipeline::threads::Threads;

impl Reader<'_> {
    /// A right factor that is kept whole.
    pub async fn right(self, operand: &Operand) -> Result<Arc<RightFactor>, Failure> {
        let gains = match &operand.row_gains {
            Some(gains) => Some((self.inputs.version(gains.object)?, gains.offset)),
            None => None,
        };
        let key = (self.inputs.version(operand.source.object)?, operand.source.offset, operand.view, gains);
        let bytes = 4 * operand.view.elements();
        let load = async {
            let _share = self.shared.loading.take(bytes).await;
            self.packed(operand, 0..operand.view.cols).await
        };
        self.shared.factors.get(key, bytes, load).await
    }

    /// Columns of all right factors of a delta, packed, in the order of its inputs, with the share that covers them.
    pub async fn right_ranges(self, delta: &Delta, columns: Range<u64>) -> Result<(Vec<RightFactor>, Share), Failure> {
        let share = self.shared.loading.take(8 * ranks(delta) * (columns.end - columns.start)).await;
        let mut all = Vec::new();
        for input in delta.inputs().into_iter().filter(|input| input.need == Need::SameColumns) {
            let packed = self.packed(input.operand, columns.clone()).await;
            all.push(packed.map_err(|f| f.at(&input.operand.source.name))?);
        }
        Ok((all, share))
    }

    async fn packed(self, operand: &Operand, columns: Range<u64>) -> Result<RightFactor, Failure> {
        let view = operand.view.columns(columns);
        let values = self.values(operand, view, 0..view.rows).await?;
        let kernels = self.shared.kernels;
        let pack = move |_: &Threads| {
            let (rank, cols) = (view.rows as usize, view.cols as usize);
            Ok(RightFactor { zero: kernels.all_zero(&values), packed: kernels.pack(&values, rank, cols) })
        };
        self.shared.compute(pack).await
    }

    /// Rows of an operand, row-major.
    pub async fn rows(self, operand: &Operand, rows: Range<u64>) -> Result<Vec<f32>, Failure> {
        self.values(operand, operand.view.rows(rows.clone()), rows).await
    }

    /// Single rows of an operand, behind one another in the order given.
    pub async fn listed(self, operand: &Operand, list: &[u64]) -> Result<Vec<f32>, Failure> {
        let views: Vec<View> = list.iter().map(|row| operand.view.rows(*row..*row + 1)).collect();
        let mut values = self.stored(&operand.source, &views).await?;
        if let Some(gains) = &operand.row_gains {
            let gains = self.stored(gains, &[View::vector(gains.elements())]).await?;
            let of_row = |row: &u64| gains[*row as usize];
            multiply_rows(&mut values, operand.view.cols, list.iter().map(of_row));
        }
        Ok(values)
    }

    /// A view of an operand, row-major: its rows `rows`, multiplied by their gains.
    async fn values(self, operand: &Operand, view: View, rows: Range<u64>) -> Result<Vec<f32>, Failure> {
        let mut values = self.stored(&operand.source, &[view]).await?;
        if let Some(gains) = &operand.row_gains {
            let gains = self.stored(gains, &[View::vector(gains.elements()).rows(rows)]).await?;
            multiply_rows(&mut values, view.cols, gains.into_iter());
        }
        Ok(values)
    }

    /// Views of a stored tensor in fp32, each row-major, behind one another.
    async fn stored(self, source: &Source, views: &[View]) -> Result<Vec<f32>, Failure> {
        let (kernels, object) = (self.shared.kernels, self.inputs.version(source.object)?);
        if views.iter().any(is_scattered) {
            let (raw, source) = (self.scattered(source, views).await?, source.clone());
            return self.shared.compute(move |_: &Threads| decode(&kernels, &source, &object, &raw)).await;
        }
        let size = size_of(source)?;
        let ranges: Vec<Range<u64>> = views.iter().flat_map(View::ranges).collect();
        let longest = ranges.iter().map(|r| r.end - r.start).max().unwrap_or(0);
        let bytes: Vec<_> =
            ranges.iter().map(|r| source.offset + r.start * size..source.offset + r.end * size).collect();
        // What is read in vain stays in proportion to what is needed.
        let gap = GAP.min(4 * longest * size);
        let raw = self.inputs.read_ranges(self.shared, source.object, &bytes, gap).await?;
        let (source, views, budget) = (source.clone(), views.to_vec(), self.shared.budget.clone());
        let gather = move |_: &Threads| {
            let read = decode(&kernels, &source, &object, &raw)?;
            // Each form goes before the next but one is made.
            budget.give(raw);
            if let [view] = views[..] {
                return Ok(view.gather(read));
            }
            let mut rest = read.as_slice();
            let mut all = Vec::with_capacity(views.iter().map(|v| v.elements() as usize).sum());
            for view in &views {
                let length = view.ranges().iter().map(|r| (r.end - r.start) as usize).sum();
                let (mine, next) = rest.split_at(length);
                all.extend(view.gather(mine.to_vec()));
                rest = next;
            }
            Ok(all)
        };
        self.shared.compute(gather).await
    }
}

fn multiply_rows(values: &mut [f32], cols: u64, gains: impl Iterator<Item = f32>) {
    for (row, gain) in values.chunks_exact_mut(cols as usize).zip(gains) {
        row.iter_mut().for_each(|v| *v *= gain);
    }
}

/// Upcasts adapter values, which must be finite.
fn decode(kernels: &Kernels, source: &Source, object: &Version, raw: &[u8]) -> Result<Vec<f32>, Failure> {
    let mut values = vec![0.0; raw.len() / size_of(source)? as usize];
    match Float::of(source.dtype) {
        Some(_) => kernels.decode(source.dtype, raw, &mut values),
        None => number::decode(source.dtype, raw, &mut values),
    }
    if kernels.all_finite(&values) {
        return Ok(values);
    }
    let what =
        values.iter().find(|v| !v.is_finite()).map_or("a value", |v| if v.is_nan() { "NaN" } else { "infinity" });
    Err(Failure::permanent(Kind::NonFinite, format!("{object}: holds {what}"))
        .hint("the training diverged, or the file is damaged"))
}
