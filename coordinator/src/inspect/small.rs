//! Reads the small tensors of a base that carry layout, neighbours as one. Which they are, `shardfuse_merge::base::scheme` decides.

use futures::{StreamExt, TryStreamExt};
use shardfuse_merge::base::scheme::small;
use shardfuse_merge::inventory::{Object, Shard, SmallTensors, Source};
use shardfuse_merge::{Error, Result};
use shardfuse_store::{Pin, Store};

use super::objects::{CONCURRENT, Objects};
use crate::failure::{io, location};

/// Bytes between two of them that are read rather than skipped.
const GAP: u64 = 64 << 10;
/// The most bytes of one read of several.
const MOST: u64 = 1 << 20;

/// Reads them. What an object is held to covers them, and so does the plan.
pub(super) async fn read(store: &dyn Store, objects: &mut Objects, shards: &[Shard]) -> Result<SmallTensors> {
    let runs = runs(small::to_read(shards)?);
    let asked: Vec<(Object, u64, u64)> = runs
        .iter()
        .map(|run| (objects.list[run[0].object.0 as usize].clone(), run[0].offset, end(run) - run[0].offset))
        .collect();
    let read: Vec<Vec<u8>> = futures::stream::iter(asked)
        .map(|(object, offset, length)| async move {
            let at = location(&object.url)?;
            let bytes = vec![0; length as usize];
            let read = store.read(&at, offset, bytes, Some(&Pin::new(&object.pin))).await.map_err(io)?;
            Ok::<Vec<u8>, Error>(read)
        })
        .buffered(CONCURRENT)
        .boxed()
        .try_collect()
        .await?;
    let mut all = SmallTensors::new();
    for (run, bytes) in runs.iter().zip(read) {
        for tensor in run {
            let from = (tensor.offset - run[0].offset) as usize;
            let bytes = &bytes[from..from + tensor.bytes() as usize];
            objects.saw(tensor.object, bytes);
            all.insert(tensor.name.clone(), bytes.to_vec());
        }
    }
    Ok(all)
}

/// One past the last byte of tensors that are read as one.
fn end(run: &[Source]) -> u64 {
    run.iter().map(|tensor| tensor.offset + tensor.bytes()).max().unwrap_or_default()
}

/// Tensors that lie close together in one object. They are sorted.
fn runs(tensors: Vec<Source>) -> Vec<Vec<Source>> {
    let mut runs: Vec<Vec<Source>> = Vec::new();
    for tensor in tensors {
        match runs.last_mut() {
            Some(run)
                if run[0].object == tensor.object
                    && tensor.offset <= end(&run[run.len() - 1..]) + GAP
                    && tensor.offset + tensor.bytes() <= run[0].offset + MOST =>
            {
                run.push(tensor);
            }
            _ => runs.push(vec![tensor]),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::inventory::ObjectId;
    use shardfuse_merge::tensor::Dtype;

    use super::*;

    #[test]
    fn what_lies_close_together_in_one_object_is_one_read() {
        let of = |(object, offset, bytes): (u32, u64, u64)| {
            let name = format!("{object} {offset}");
            Source { name, object: ObjectId(object), offset, dtype: Dtype::U8, shape: vec![bytes] }
        };
        let all = [(0, 100, 16), (0, 116, 16), (0, 132 + GAP, 16), (0, 149 + 2 * GAP, 16), (1, 160 + 2 * GAP, 16)];
        let runs = runs(all.map(of).to_vec());
        assert_eq!(runs.iter().map(Vec::len).collect::<Vec<_>>(), [3, 1, 1]);
        assert_eq!(end(&runs[0]), 148 + GAP);
        let many = (0..33).map(|i| of((0, i * (MOST / 32), MOST / 32))).collect();
        assert_eq!(super::runs(many).len(), 2, "no read is longer than a megabyte");
    }
}
