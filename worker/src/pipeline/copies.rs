//! Parts that the store copies by itself.
//!
//! A part that is one unchanged range of one input need not move through a worker.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use shardfuse_merge::inventory::ObjectId;
use shardfuse_merge::plan::task::{Fill, Part};
use shardfuse_proto::v1;
use shardfuse_store::{Chunk, Location, PartSlot, UploadId, digest};
use tracing::debug;

use super::part_plan::{Copy, Read};
use super::read::Reader;
use super::stages::{At, Way};
use crate::Failure;

/// Has the store copy a part. `None` if it does not: then the part is read and put.
pub async fn by_the_store(
    reader: Reader<'_>,
    fill: &Fill,
    part: &Part,
    copy: &Copy<'_>,
    way: &mut Way<'_>,
) -> Result<Option<v1::PartReceipt>, Failure> {
    let (shared, to) = (reader.shared, fill.url.parse::<Location>()?);
    let (from, version) = reader.inputs.source(copy.read.object)?;
    let between = shared.copying.between(from, &to);
    if between.is_refused() {
        return Ok(None);
    }
    let turn = shared.copying.turn().await;
    way.enter(At::Putting);
    let slot = PartSlot { number: part.number, offset: part.bytes.start };
    let (upload, store) = (UploadId::new(&fill.upload), shared.stores.open(&to));
    let (range, pin, store, to) = (&copy.read.range, &version.pin, &store, &to);
    let upload = &upload;
    let ask = move || {
        debug!(file = %fill.url, part = part.number, %from, "copied by the store");
        let chunk = Chunk::Copy { from: from.clone(), range: range.clone(), pin: pin.clone() };
        store.compose_part(to, upload, slot, vec![chunk])
    };
    let copied = between.ask(&ask).await.map_err(|e| Failure::from(e).at(format_args!("part {}", part.number)))?;
    drop(turn);
    let Some(id) = copied else {
        way.enter(At::Waiting);
        return Ok(None);
    };
    let length = part.bytes.end - part.bytes.start;
    shared.copying.bytes.fetch_add(length, Ordering::Relaxed);
    reader.inputs.meter().put(length);
    metrics::counter!("shardfuse_copied_bytes_total").increment(length);
    let chaining = match part.digest {
        true => of_source(reader, copy.read.clone(), slot.offset, fill.size).await?,
        false => Vec::new(),
    };
    Ok(Some(v1::PartReceipt { store_id: id.as_str().to_owned(), length, chaining }))
}

/// Bytes that are read at a time for a digest.
const CHUNK: u64 = 8 << 20;

/// The digest that a range of an input has at a place of a file.
async fn of_source(reader: Reader<'_>, read: Read, offset: u64, size: u64) -> Result<Vec<u8>, Failure> {
    let Read { object, range } = read;
    let mut digest = digest::Part::new(offset, range.end - range.start, size);
    for start in (range.start..range.end).step_by(CHUNK as usize) {
        let bytes = chunk(reader, object, start..(start + CHUNK).min(range.end)).await?;
        digest = reader
            .shared
            .compute(move |_| {
                digest.update(&bytes);
                Ok(digest)
            })
            .await?;
    }
    Ok(digest.finish().to_vec())
}

async fn chunk(reader: Reader<'_>, object: ObjectId, range: std::ops::Range<u64>) -> Result<Bytes, Failure> {
    let _share = reader.shared.loading.take(range.end - range.start).await;
    reader.inputs.lend(reader.shared, object, range).await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shardfuse_merge::Dtype;
    use shardfuse_merge::plan::task::{Assignment, Job};
    use shardfuse_merge::recipe::Recipe;
    use shardfuse_store::fault::{Faulty, Operation};
    use shardfuse_store::memory::Memory;
    use shardfuse_store::{Completion, PartId, Store, Stores};
    use tokio::sync::mpsc;

    use crate::device::Device;
    use crate::pipeline::Pipeline;
    use crate::pipeline::tests::Bench;
    use crate::work::{Gate, Meter, Work as _};

    const PART: u64 = 1024;
    const MEMORY: u64 = 1 << 20;

    /// A file of which everything but the start is one range of the input, in seven parts, and its bytes.
    async fn case(store: &dyn Store) -> (Assignment, Vec<u8>) {
        let mut bench = Bench::new();
        let source = bench.source("w", Dtype::BF16, &[50, 64]);
        let from = source.offset as usize;
        bench.place("w", Dtype::BF16, Recipe::Copy(source));
        let mut assignment = bench.assignment(store, PART).await;
        let Job::Fill(fill) = &mut assignment.job else { unreachable!("it fills") };
        fill.copied = true;
        let header = fill.header.1 as usize;
        let bytes = [&vec![7; header], &bench.data[from..from + 6400]].concat();
        (assignment, bytes)
    }

    /// Does an assignment; the receipts by part, and what the output is then.
    async fn made(store: Arc<dyn Store>, assignment: &Assignment) -> (Vec<super::v1::PartReceipt>, Vec<u8>, Pipeline) {
        let Job::Fill(fill) = &assignment.job else { unreachable!("it fills") };
        let pipeline = Pipeline::new(Arc::new(Stores::all(store.clone())), MEMORY, 0, Device::Cpu).unwrap();
        let (send, mut done) = mpsc::channel(100);
        pipeline.work(assignment, &send, &Gate::open(), &Meter::default()).await.unwrap();
        drop(send);
        let mut receipts = std::collections::BTreeMap::new();
        while let Some(piece) = done.recv().await {
            let Some(super::v1::piece_done::Result::Part(receipt)) = piece.result else { panic!("{piece:?}") };
            receipts.insert(piece.piece, receipt);
        }
        let at = fill.url.parse().unwrap();
        let bytes = match fill.check {
            true => Vec::new(),
            false => {
                let parts: Vec<_> = receipts.iter().map(|(n, r)| (*n, PartId::new(&r.store_id))).collect();
                let upload = super::UploadId::new(&fill.upload);
                store.complete(&at, Completion { upload: &upload, parts: &parts, size: fill.size }).await.unwrap();
                store.get(&at, 1 << 20).await.unwrap().0.to_vec()
            }
        };
        (receipts.into_values().collect(), bytes, pipeline)
    }

    #[tokio::test]
    async fn parts_that_do_not_change_are_copied_by_the_store_and_not_read() {
        let memory = Arc::new(Memory::new().with_small_parts());
        let (assignment, bytes) = case(&*memory).await;
        let (receipts, made, pipeline) = made(memory.clone(), &assignment).await;
        assert!(made == bytes);
        let unread: Vec<bool> = receipts.iter().map(|receipt| receipt.chaining.is_empty()).collect();
        assert_eq!(unread, [false, true, true, true, true, true, true], "the header is in the first part");
        let copied = bytes.len() as u64 - PART;
        let usage = pipeline.usage();
        assert_eq!((usage.bytes_copied, usage.bytes_put, usage.bytes_read), (copied, PART, PART));
        assert_eq!(memory.bytes_copied(), copied);
    }

    #[tokio::test]
    async fn a_digest_that_is_wanted_is_that_of_the_bytes() {
        let memory = Arc::new(Memory::new().with_small_parts());
        let (mut assignment, bytes) = case(&*memory).await;
        let Job::Fill(fill) = &mut assignment.job else { unreachable!("it fills") };
        fill.parts.iter_mut().for_each(|part| part.digest = true);
        let parts: Vec<_> = fill.parts.iter().map(|part| part.bytes.clone()).collect();
        let (receipts, ..) = made(memory.clone(), &assignment).await;
        for (receipt, part) in receipts.iter().zip(parts) {
            let own = &bytes[part.start as usize..part.end as usize];
            let expected = super::digest::chaining_value(own, part.start, bytes.len() as u64);
            assert_eq!(receipt.chaining, expected, "{part:?}");
        }
        assert_eq!(memory.bytes_copied(), bytes.len() as u64 - PART);
    }

    #[tokio::test]
    async fn a_store_that_refuses_is_asked_once() {
        let refusing = Arc::new(Memory::new().with_small_parts().with_refused_copies());
        let faulty = Arc::new(Faulty::new(refusing));
        let (assignment, bytes) = case(&*faulty).await;
        let (receipts, made, pipeline) = made(faulty.clone(), &assignment).await;
        assert!(made == bytes);
        assert!(receipts.iter().all(|receipt| receipt.chaining.len() == 32), "what is read has a digest");
        assert_eq!((pipeline.usage().bytes_copied, pipeline.usage().bytes_put), (0, bytes.len() as u64));
        assert_eq!(faulty.calls(Operation::ComposePart), 1);
    }

    #[tokio::test]
    async fn a_check_reads_what_the_store_copied() {
        let memory = Arc::new(Memory::new().with_small_parts());
        let (mut assignment, bytes) = case(&*memory).await;
        let Job::Fill(fill) = &mut assignment.job else { unreachable!("it fills") };
        fill.check = true;
        let (receipts, _, pipeline) = made(memory.clone(), &assignment).await;
        assert!(receipts.iter().all(|receipt| receipt.chaining.len() == 32));
        assert_eq!((pipeline.usage().bytes_copied, memory.bytes_copied()), (0, 0));
        assert_eq!(receipts.len() as u64, (bytes.len() as u64).div_ceil(PART));
    }
}
