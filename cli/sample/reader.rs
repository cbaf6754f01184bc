//! Rows of inputs and of the output, by ranged reads.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_coordinator::failure;
use shardfuse_merge::inventory::{Object, Source};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::recipe::arithmetic::Plain;
use shardfuse_merge::recipe::{Placed, Span, Start};
use shardfuse_merge::statistic::{Block, Statistic, StatisticId};
use shardfuse_merge::tensor::float::{Float, decode};
use shardfuse_merge::tensor::{View, number};
use shardfuse_merge::{Dtype, DtypeExt, Error, Kind, Result};
use shardfuse_store::{Location, Pin, Stores};

/// Reads of one batch that run at a time.
const AHEAD: usize = 8;
/// Values of one block of a view that is not stored row by row.
const BLOCK: u64 = 1 << 20;

/// Where the bytes come from.
pub struct Reader<'a> {
    pub stores: &'a Stores,
    /// The inputs, by their numbers.
    pub objects: &'a [Object],
    /// The statistics that recipes wait for.
    pub statistics: &'a [Statistic],
    /// Their values, once they are made.
    values: Mutex<HashMap<StatisticId, Arc<[u8]>>>,
}

impl<'a> Reader<'a> {
    /// The stored bytes of rows (ascending) of a source.
    pub async fn raw_rows(&self, source: &Source, rows: &[u64], cols: u64) -> Result<Vec<Vec<u8>>> {
        let object = &self.objects[source.object.0 as usize];
        let at: Location = failure::location(&object.url)?;
        let row_bytes = row_bytes(&source.name, source.dtype, cols)?;
        self.rows_at(&at, source.offset, row_bytes, rows, Some(&Pin::new(&object.pin))).await
    }

    /// Of objects, and of the statistics that recipes over them wait for.
    pub fn over(stores: &'a Stores, objects: &'a [Object], statistics: &'a [Statistic]) -> Reader<'a> {
        Reader { stores, objects, statistics, values: Mutex::default() }
    }

    /// Of the inputs of a plan.
    pub fn of(stores: &'a Stores, plan: &'a Plan) -> Reader<'a> {
        Reader::over(stores, &plan.objects, &plan.statistics)
    }

    /// Rows (ascending) of what a recipe starts from, one after another.
    pub async fn start(&self, start: &Start, rows: &[u64]) -> Result<Vec<f32>> {
        let (_, cols) = start.matrix();
        let mut all = Vec::with_capacity(rows.len() * cols as usize);
        for (first, count) in runs(rows) {
            all.append(&mut self.run(start, first..first + count).await?);
        }
        Ok(all)
    }

    /// A run of rows of what a recipe starts from.
    pub async fn run(&self, start: &Start, rows: Range<u64>) -> Result<Vec<f32>> {
        let (_, cols) = start.matrix();
        let statistic = match start.statistic() {
            Some(id) => Some(self.statistic(id).await?),
            None => None,
        };
        let reads: Vec<_> = start.ranges(rows.clone()).into_iter().map(|span| self.span(span)).collect();
        let read: Vec<Vec<u8>> = stream::iter(reads).buffered(AHEAD).try_collect().await?;
        let bytes: Vec<&[u8]> = read.iter().map(Vec::as_slice).chain(statistic.as_deref()).collect();
        let mut values = vec![0.0; ((rows.end - rows.start) * cols) as usize];
        start.decode(rows, &bytes, &floats, &mut values);
        Ok(values)
    }

    /// The value of a statistic without steps, made once more.
    async fn statistic(&self, id: StatisticId) -> Result<Arc<[u8]>> {
        let known = |known: &HashMap<StatisticId, Arc<[u8]>>| known.get(&id).cloned();
        if let Some(value) = known(&self.values.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(value);
        }
        let statistic = &self.statistics[id.0 as usize];
        let (height, cols) = statistic.start.matrix();
        let mut states = Vec::new();
        for first in (0..height).step_by(statistic.block_rows() as usize) {
            let rows: Vec<u64> = (first..height.min(first + statistic.block_rows())).collect();
            let values = Box::pin(self.start(&statistic.start, &rows)).await?;
            let rows = first..first + rows.len() as u64;
            let block = Block { rows, after: &values, before: &[], stored: &[], whole: None };
            states.push(statistic.kind.accumulate(&Plain, &floats, &statistic.start, &block));
        }
        let value: Arc<[u8]> = statistic.kind.fold(cols, states.iter().map(Vec::as_slice)).into();
        self.values.lock().unwrap_or_else(PoisonError::into_inner).insert(id, Arc::clone(&value));
        Ok(value)
    }

    /// Bytes of an input.
    pub async fn span(&self, Span { object, bytes }: Span) -> Result<Vec<u8>> {
        let object = &self.objects[object.0 as usize];
        let at = failure::location(&object.url)?;
        let buf = vec![0; (bytes.end - bytes.start) as usize];
        let read = self.stores.open(&at).read(&at, bytes.start, buf, Some(&Pin::new(&object.pin))).await;
        read.map_err(failure::io)
    }

    /// Rows (ascending) of a view, one after another.
    pub async fn rows(&self, source: &Source, view: View, rows: &[u64]) -> Result<Vec<f32>> {
        if view.col_stride == 1 {
            let views: Vec<View> =
                runs(rows).into_iter().map(|(first, count)| view.rows(first..first + count)).collect();
            return Ok(self.views(source, views).await?.concat());
        }
        // A row is spread over all that is stored, so all of it is read, some columns at a time.
        let mut found = vec![Vec::with_capacity(view.cols as usize); rows.len()];
        let each = (BLOCK / view.rows.max(1)).max(1);
        for from in (0..view.cols).step_by(each as usize) {
            let columns = view.columns(from..view.cols.min(from + each));
            let block = self.view(source, columns).await?;
            for (found, row) in found.iter_mut().zip(rows) {
                found.extend_from_slice(&block[(row * columns.cols) as usize..][..columns.cols as usize]);
            }
        }
        Ok(found.concat())
    }

    /// All of a view, row-major.
    pub async fn view(&self, source: &Source, view: View) -> Result<Vec<f32>> {
        Ok(self.views(source, vec![view]).await?.concat())
    }

    async fn views(&self, source: &Source, views: Vec<View>) -> Result<Vec<Vec<f32>>> {
        let object = &self.objects[source.object.0 as usize];
        let at = failure::location(&object.url)?;
        let (store, pin) = (self.stores.open(&at), Pin::new(&object.pin));
        let size = source.dtype.bytes().filter(|_| number::is_number(source.dtype)).ok_or_else(|| {
            let (name, dtype) = (&source.name, source.dtype.name());
            Error::new(Kind::Internal, format!("{name} has the dtype {dtype}, which nothing is computed with"))
        })?;
        let read = |range: Range<u64>| {
            let (at, store, pin) = (&at, &store, &pin);
            async move {
                let buf = vec![0; ((range.end - range.start) * size) as usize];
                store.read(at, source.offset + range.start * size, buf, Some(pin)).await
            }
        };
        let mut all = Vec::with_capacity(views.len());
        for view in views {
            let reads: Vec<_> = view.ranges().into_iter().map(&read).collect();
            let blocks: Vec<Vec<u8>> = stream::iter(reads).buffered(AHEAD).try_collect().await.map_err(failure::io)?;
            let raw = blocks.concat();
            let mut values = vec![0.0; raw.len() / size as usize];
            number::decode(source.dtype, &raw, &mut values);
            all.push(view.gather(values));
        }
        Ok(all)
    }

    /// The stored bytes of rows (ascending) of a tensor of the output.
    pub async fn output_rows(&self, at: &Location, tensor: &Placed, rows: &[u64], cols: u64) -> Result<Vec<Vec<u8>>> {
        let row_bytes = row_bytes(&tensor.name, tensor.dtype, cols)?;
        self.rows_at(at, tensor.offset, row_bytes, rows, None).await
    }

    /// Bytes of a file of the output.
    pub async fn output_bytes(&self, at: &Location, bytes: Range<u64>) -> Result<Vec<u8>> {
        let buf = vec![0; (bytes.end - bytes.start) as usize];
        self.stores.open(at).read(at, bytes.start, buf, None).await.map_err(failure::io)
    }

    async fn rows_at(
        &self,
        at: &Location,
        offset: u64,
        row_bytes: u64,
        rows: &[u64],
        pin: Option<&Pin>,
    ) -> Result<Vec<Vec<u8>>> {
        let store = self.stores.open(at);
        let reads: Vec<_> = runs(rows)
            .into_iter()
            .map(|(first, count)| {
                store.read(at, offset + first * row_bytes, vec![0; (count * row_bytes) as usize], pin)
            })
            .collect();
        let blocks: Vec<Vec<u8>> = stream::iter(reads).buffered(AHEAD).try_collect().await.map_err(failure::io)?;
        let split = |block: &Vec<u8>| match row_bytes {
            0 => Vec::new(),
            n => block.chunks_exact(n as usize).map(<[u8]>::to_vec).collect(),
        };
        Ok(blocks.iter().flat_map(split).collect())
    }
}

/// Bytes of a row.
///
/// # Errors
/// `unsupported` if rows begin within a byte.
fn row_bytes(name: &str, dtype: Dtype, cols: u64) -> Result<u64> {
    let bits = cols * dtype.bitsize() as u64;
    match bits.is_multiple_of(8) {
        true => Ok(bits / 8),
        false => {
            let text =
                format!("a row of {name} ({}) has {bits} bits, rows of whole bytes can be sampled", dtype.name());
            Err(Error::new(Kind::Unsupported, text).hint("verify without --sample compares the digests of whole files"))
        }
    }
}

fn floats(float: Float, bytes: &[u8], out: &mut [f32]) {
    decode(float.dtype(), bytes, out);
}

/// Runs of consecutive rows: the first and how many.
pub fn runs(rows: &[u64]) -> Vec<(u64, u64)> {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for row in rows {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == *row => *count += 1,
            _ => runs.push((*row, 1)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn consecutive_rows_are_one_read() {
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [(0, 3), (5, 1), (7, 2)]);
        assert!(runs(&[]).is_empty());
    }

    #[test]
    fn rows_that_begin_within_a_byte_are_refused() {
        assert_eq!(row_bytes("w", Dtype::BF16, 3).unwrap(), 6);
        assert_eq!(row_bytes("w", Dtype::F4, 4).unwrap(), 2);
        let refused = row_bytes("w", Dtype::F4, 3).unwrap_err();
        assert_eq!(refused.message(), "a row of w (F4) has 12 bits, rows of whole bytes can be sampled");
    }
}
