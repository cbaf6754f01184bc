//! Pinned reads of an assignment's inputs.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::Kind;
use shardfuse_merge::inventory::{Object, ObjectId};
use shardfuse_store::{Location, Pin, Stores};

use super::coalesce::{MOST, coalesce};
use super::version::Version;
use crate::Failure;
use crate::pipeline::shared::Shared;
use crate::work::Meter;

/// Reads of one list of ranges that run at a time.
pub const AT_A_TIME: usize = 4;

#[derive(Debug)]
struct Input {
    at: Location,
    version: Version,
}

/// The inputs of an assignment.
#[derive(Debug)]
pub struct Inputs {
    stores: Arc<Stores>,
    objects: HashMap<u32, Input>,
    read: Arc<AtomicU64>,
    meter: Meter,
}

impl Inputs {
    /// Parses the objects' URLs. What is done with the inputs is counted by `meter`.
    pub fn new(shared: &Shared, objects: &[(u32, Object)], meter: &Meter) -> Result<Self, Failure> {
        let mut map = HashMap::new();
        for (id, o) in objects {
            let version = Version { url: Arc::from(o.url.as_str()), pin: Pin::new(&o.pin) };
            map.insert(*id, Input { at: o.url.parse()?, version });
        }
        let (stores, read) = (Arc::clone(&shared.stores), Arc::clone(&shared.bytes_read));
        Ok(Inputs { stores, objects: map, read, meter: meter.clone() })
    }

    /// Counts what the attempt does.
    pub fn meter(&self) -> &Meter {
        &self.meter
    }

    /// The object behind a number, and its version.
    pub fn version(&self, id: ObjectId) -> Result<Version, Failure> {
        self.find(id).map(|o| o.version.clone())
    }

    /// Where an object lies, and its version.
    pub fn source(&self, id: ObjectId) -> Result<(&Location, &Version), Failure> {
        self.find(id).map(|input| (&input.at, &input.version))
    }

    /// What an object is known by on a device: its URL and its pin.
    pub fn identity(&self, id: ObjectId) -> Result<(Arc<str>, Arc<str>), Failure> {
        self.find(id).map(|o| (Arc::clone(&o.version.url), Arc::from(o.version.pin.as_str())))
    }

    /// Fills `buf` from `offset` of an object, which must still be what was planned.
    pub async fn read(&self, id: ObjectId, offset: u64, buf: Vec<u8>) -> Result<Vec<u8>, Failure> {
        let Input { at, version } = self.find(id)?;
        if buf.is_empty() {
            return Ok(buf);
        }
        let buf = self.stores.open(at).read(at, offset, buf, Some(&version.pin)).await?;
        self.count(buf.len());
        Ok(buf)
    }

    /// Reads a range of a small object of ours that is not an input, such as a header.
    pub async fn read_own(&self, url: &str, range: Range<u64>) -> Result<Vec<u8>, Failure> {
        let at: Location = url.parse()?;
        let buf = vec![0; (range.end - range.start) as usize];
        let bytes = self.stores.open(&at).read(&at, range.start, buf, None).await?;
        self.count(bytes.len());
        Ok(bytes)
    }

    /// Reads a whole small object of ours and holds it against its BLAKE3 digest.
    pub async fn read_checked(&self, url: &str, length: u64, digest: &str) -> Result<Vec<u8>, Failure> {
        let bytes = self.read_own(url, 0..length).await?;
        if blake3::hash(&bytes).to_hex().as_str() == digest {
            return Ok(bytes);
        }
        Err(Failure::permanent(Kind::Io, format!("{url} does not have the digest {digest} that the assignment names")))
    }

    /// Many ranges of one object in their order, behind one another in one buffer. Neighbours at most `gap` apart are read
    /// together, a few reads at a time.
    pub async fn read_ranges(
        &self,
        shared: &Shared,
        id: ObjectId,
        ranges: &[Range<u64>],
        gap: u64,
    ) -> Result<Vec<u8>, Failure> {
        let reads = coalesce(ranges, gap, MOST);
        if let ([read], [range]) = (reads.as_slice(), ranges)
            && read == range
        {
            return self.read(id, read.start, shared.budget.buffer((read.end - read.start) as usize)).await;
        }
        // Where each range goes, by its start in the object.
        let mut to = 0;
        let mut places = Vec::with_capacity(ranges.len());
        for range in ranges {
            let len = (range.end - range.start) as usize;
            places.push((range.clone(), to));
            to += len;
        }
        places.sort_unstable_by_key(|(range, _)| range.start);
        let mut all = shared.budget.buffer(to);
        let mut done = stream::iter(reads)
            .map(|read| async move {
                let buf = shared.budget.buffer((read.end - read.start) as usize);
                self.read(id, read.start, buf).await.map(|buf| (read, buf))
            })
            .buffer_unordered(AT_A_TIME);
        while let Some((read, buf)) = done.try_next().await? {
            let first = places.partition_point(|(range, _)| range.start < read.start);
            for (range, to) in places[first..].iter().take_while(|(range, _)| range.start < read.end) {
                let from = (range.start - read.start) as usize;
                let len = (range.end - range.start) as usize;
                all[*to..*to + len].copy_from_slice(&buf[from..from + len]);
            }
            shared.budget.give(buf);
        }
        Ok(all)
    }

    /// One range of an object in a buffer that is given back when its last slice is dropped.
    pub async fn lend(&self, shared: &Shared, id: ObjectId, range: Range<u64>) -> Result<Bytes, Failure> {
        let buf = shared.budget.buffer((range.end - range.start) as usize);
        Ok(shared.budget.lend(self.read(id, range.start, buf).await?))
    }

    fn count(&self, bytes: usize) {
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        self.meter.read(bytes as u64);
        metrics::counter!("shardfuse_read_bytes_total").increment(bytes as u64);
    }

    fn find(&self, id: ObjectId) -> Result<&Input, Failure> {
        self.objects
            .get(&id.0)
            .ok_or_else(|| Failure::local(format!("the assignment names input {} and does not describe it", id.0)))
    }
}
