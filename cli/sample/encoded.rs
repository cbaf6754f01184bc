//! Weights that were encoded again: codes and scales of the output together, against the merged values in f64.

use std::collections::HashMap;

use shardfuse_coordinator::failure;
use shardfuse_merge::output::OutputFile;
use shardfuse_merge::recipe::{Placed, Recipe, Requantise, Start};
use shardfuse_merge::tensor::float::decode;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Location;

use super::exact::Exact;
use super::found::Found;
use super::reader::{Reader, runs};
use super::rows::{batch_rows, kind, spread};

/// Where the tensors of such weights lie in the output: by the place of the stored codes, and which tensor it is.
pub struct Encoded<'a> {
    places: HashMap<(u32, u64, u8), (&'a OutputFile, &'a Placed)>,
}

impl<'a> Encoded<'a> {
    /// Those of an output.
    pub fn of(tensors: impl Iterator<Item = (&'a OutputFile, &'a Placed)>) -> Encoded<'a> {
        let of = |(file, placed): (&'a OutputFile, &'a Placed)| match &placed.recipe {
            Recipe::Requantise(requantise) => Some((key(requantise, requantise.tensor)?, (file, placed))),
            Recipe::Copy(_) | Recipe::Fuse(_) => None,
        };
        Encoded { places: tensors.filter_map(of).collect() }
    }

    /// Rows of a weight, looked at with its codes; its scales are looked at with them.
    pub async fn look(
        &self,
        reader: &Reader<'_>,
        output: &Location,
        tensor: &Placed,
        requantise: &Requantise,
        per_tensor: u64,
    ) -> Result<(String, Found)> {
        let mut found = Found { tensors: tensor.begins().is_some().into(), ..Found::default() };
        if requantise.tensor > 0 {
            return Ok((kind(&tensor.name), found));
        }
        let (start, mut exact) = (&requantise.fuse.start, Exact::new(reader));
        let (height, cols) = start.matrix();
        let width = cols.max(1) as usize;
        for batch in spread(height, per_tensor).chunks(batch_rows(cols)) {
            let want = exact.rows(start, &requantise.fuse.steps, batch).await?;
            let mut rows = batch.iter().zip(want.values.chunks_exact(width).zip(want.doubt.chunks_exact(width)));
            for (first, count) in runs(batch) {
                let (have, steps) = self.rows(reader, output, requantise, first..first + count).await?;
                for (have, steps) in have.chunks_exact(width).zip(steps.chunks_exact(width)) {
                    let Some((row, want)) = rows.next() else { break };
                    found.encoded(&tensor.name, *row, (have, steps), want);
                }
            }
        }
        Ok((kind(&tensor.name), found))
    }

    /// The values of rows of the output, and how far each may be from what it was made of.
    async fn rows(
        &self,
        reader: &Reader<'_>,
        output: &Location,
        requantise: &Requantise,
        rows: std::ops::Range<u64>,
    ) -> Result<(Vec<f32>, Vec<f32>)> {
        let start: &Start = &requantise.fuse.start;
        let mut stored = Vec::new();
        for (tensor, (span, (_, bytes))) in
            start.ranges(rows.clone()).into_iter().zip(start.stretches(rows.clone())).enumerate()
        {
            let made = key(requantise, tensor as u8).and_then(|key| self.places.get(&key));
            stored.push(match made {
                Some((file, placed)) => {
                    let at = output.join(&file.name).map_err(failure::io)?;
                    reader.output_bytes(&at, placed.offset + bytes.start..placed.offset + bytes.end).await?
                }
                None => reader.span(span).await?,
            });
        }
        let stored: Vec<&[u8]> = stored.iter().map(Vec::as_slice).collect();
        let recoder = requantise.recoder().map_err(|why| Error::new(Kind::Internal, why))?;
        Ok(recoder.judged(&rows, &stored, &|float, bytes, out| decode(float.dtype(), bytes, out)))
    }
}

fn key(requantise: &Requantise, tensor: u8) -> Option<(u32, u64, u8)> {
    requantise.fuse.start.tensors().first().map(|codes| (codes.object.0, codes.offset, tensor))
}
