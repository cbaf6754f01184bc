//! The tensors of one weight file, safetensors or PyTorch, by ranged reads of its headers only.

use std::collections::BTreeMap;

use shardfuse_merge::checkpoint::header::{self, TensorEntry};
use shardfuse_merge::checkpoint::pickle::{Progress, Reader};
use shardfuse_merge::checkpoint::{instead, pointer};
use shardfuse_merge::inventory::Object;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{Location, Pin, Store};
use tokio::sync::Semaphore;

use crate::failure::io;

/// The first read of a file, in bytes: most headers fit, so that a header takes one read.
const FIRST: u64 = 256 << 10;

/// A header of more bytes takes its turn: the format allows 100 MB each, and many are read at the same time.
const LARGE: u64 = 4 << 20;
/// Large headers that the process holds as text at the same time.
static LARGE_AT_A_TIME: Semaphore = Semaphore::const_new(2);

/// A weight file's tensors.
#[derive(Debug)]
pub struct Weights {
    /// The object that they lie in.
    pub object: Object,
    /// `__metadata__`; `{"format": "pt"}` for a PyTorch file.
    pub metadata: BTreeMap<String, String>,
    /// The tensors, in the order of their data (a PyTorch file: of its dictionary).
    pub tensors: Vec<TensorEntry>,
    /// Entries that are no tensors.
    pub skipped: Vec<String>,
}

/// Reads the headers of a weight file.
pub async fn read(store: &dyn Store, at: &Location) -> Result<Weights> {
    let meta = store.head(at).await.map_err(io)?;
    let first = vec![0; FIRST.min(meta.size) as usize];
    let first = store.read(at, 0, first, Some(&meta.pin)).await.map_err(io)?;
    let safetensors = at.file_name().is_some_and(|n| n.ends_with(".safetensors"));
    let kind = if safetensors { Kind::BadSafetensors } else { Kind::BadPickle };
    pointer::refuse(kind, meta.size, &first).and_then(|()| instead::refuse(kind, &first)).map_err(|e| e.at(at))?;
    let read = Read { store, at, pin: &meta.pin, size: meta.size, first, seen: blake3::Hasher::new() };
    let result = if safetensors { read.safetensors().await } else { read.pickle().await };
    result.map_err(|e| e.at(at))
}

struct Read<'a> {
    store: &'a dyn Store,
    at: &'a Location,
    pin: &'a Pin,
    size: u64,
    /// The start of the file, read ahead.
    first: Vec<u8>,
    /// Everything that was used, so that a file whose size and time stay and whose header changes is noticed.
    seen: blake3::Hasher,
}

impl Read<'_> {
    async fn range(&mut self, offset: u64, len: u64) -> Result<Vec<u8>> {
        let ahead = self.first.get(offset as usize..).unwrap_or_default();
        let mut bytes = ahead[..ahead.len().min(len as usize)].to_vec();
        if let more @ 1.. = len as usize - bytes.len() {
            let from = offset + bytes.len() as u64;
            let more = self.store.read(self.at, from, vec![0; more], Some(self.pin)).await.map_err(io)?;
            bytes = if bytes.is_empty() { more } else { [bytes, more].concat() };
        }
        self.seen.update(&bytes);
        Ok(bytes)
    }

    async fn safetensors(mut self) -> Result<Weights> {
        if self.size < 8 {
            return Err(Error::new(
                Kind::BadSafetensors,
                format!("{} bytes are too few for a safetensors file", self.size),
            )
            .hint("the file was not written to its end; fetch or save it again"));
        }
        let first = self.range(0, 8).await?;
        let mut length = [0; 8];
        length.copy_from_slice(&first);
        let length = header::header_length(length, self.size)?;
        let _turn = match length > LARGE {
            // Only a semaphore that was closed gives none, and nobody closes this one.
            true => LARGE_AT_A_TIME.acquire().await.ok(),
            false => None,
        };
        let json = self.range(8, length).await?;
        let parsed = header::parse(&json, self.size)?;
        Ok(self.finish(parsed.metadata, parsed.tensors, Vec::new()))
    }

    async fn pickle(mut self) -> Result<Weights> {
        let mut reader = Reader::new(self.size);
        let mut _turn = None;
        loop {
            match reader.poll()? {
                Progress::Need(ranges) => {
                    if _turn.is_none() && ranges.iter().map(|r| r.end - r.start).sum::<u64>() > LARGE {
                        _turn = LARGE_AT_A_TIME.acquire().await.ok();
                    }
                    for r in ranges {
                        let bytes = self.range(r.start, r.end - r.start).await?;
                        reader.supply(r.start, bytes);
                    }
                }
                Progress::Done(contents) => {
                    let metadata = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
                    return Ok(self.finish(metadata, contents.tensors, contents.skipped));
                }
            }
        }
    }

    fn finish(self, metadata: BTreeMap<String, String>, tensors: Vec<TensorEntry>, skipped: Vec<String>) -> Weights {
        let object = Object {
            url: self.at.to_string(),
            size: self.size,
            pin: self.pin.as_str().to_owned(),
            seen: self.seen.finalize().to_hex().to_string(),
        };
        Weights { object, metadata, tensors, skipped }
    }
}
