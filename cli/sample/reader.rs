//! Rows of inputs and of the output, by ranged reads.

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::fuse::decode_f64;
use shardfuse_merge::inventory::Source;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::recipe::Placed;
use shardfuse_merge::{DtypeExt, Error, Kind, Result};
use shardfuse_store::{Location, Pin, Stores};

/// Reads of one batch that run at a time.
const AHEAD: usize = 8;

/// Where the bytes come from.
pub struct Reader<'a> {
    pub stores: &'a Stores,
    pub plan: &'a Plan,
}

impl Reader<'_> {
    /// The stored bytes of rows (ascending) of a source.
    pub async fn raw_rows(&self, source: &Source, rows: &[u64], cols: u64) -> Result<Vec<Vec<u8>>> {
        let object = &self.plan.objects[source.object.0 as usize];
        let at: Location = object.url.parse().map_err(|e: shardfuse_store::Error| Error::new(Kind::Io, e.chain()))?;
        let row_bytes = cols * source.dtype.bitsize() as u64 / 8;
        self.rows_at(&at, source.offset, row_bytes, rows, Some(&Pin::new(&object.pin))).await
    }

    /// The same in f64.
    pub async fn rows(&self, source: &Source, rows: &[u64], cols: u64) -> Result<Vec<Vec<f64>>> {
        let raw = self.raw_rows(source, rows, cols).await?;
        Ok(raw.iter().map(|row| decoded(source, row, cols)).collect())
    }

    /// Rows `from .. to` in f64, one after another.
    pub async fn block(&self, source: &Source, from: u64, to: u64, cols: u64) -> Result<Vec<f64>> {
        let rows: Vec<u64> = (from..to).collect();
        Ok(self.rows(source, &rows, cols).await?.concat())
    }

    /// The stored bytes of rows (ascending) of a tensor of the output.
    pub async fn output_rows(&self, at: &Location, tensor: &Placed, rows: &[u64], cols: u64) -> Result<Vec<Vec<u8>>> {
        let row_bytes = cols * tensor.dtype.bytes().unwrap_or(0);
        self.rows_at(at, tensor.offset, row_bytes, rows, None).await
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
        let blocks: Vec<Vec<u8>> =
            stream::iter(reads).buffered(AHEAD).try_collect().await.map_err(|e| Error::new(Kind::Io, e.chain()))?;
        let split = |block: &Vec<u8>| match row_bytes {
            0 => Vec::new(),
            n => block.chunks_exact(n as usize).map(<[u8]>::to_vec).collect(),
        };
        Ok(blocks.iter().flat_map(split).collect())
    }
}

fn decoded(source: &Source, raw: &[u8], cols: u64) -> Vec<f64> {
    let mut values = vec![0.0; cols as usize];
    decode_f64(source.dtype, raw, &mut values);
    values
}

/// Runs of consecutive rows: the first and how many.
fn runs(rows: &[u64]) -> Vec<(u64, u64)> {
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
    use super::runs;

    #[test]
    fn consecutive_rows_are_one_read() {
        assert_eq!(runs(&[0, 1, 2, 5, 7, 8]), [(0, 3), (5, 1), (7, 2)]);
        assert!(runs(&[]).is_empty());
    }
}
