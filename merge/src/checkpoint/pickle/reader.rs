//! The reader: which ranges are needed, until the tensors are known.

use std::iter;
use std::mem;
use std::ops::Range;

use super::archive::{Directory, Entry};
use super::end::{self, End};
use super::fetched::Fetched;
use super::limits::MAX_PICKLE;
use super::refuse::{bad, shown, unsupported};
use super::view::{Layout, Stored, View};
use super::{PickledTensor, machine, state, view};
use crate::checkpoint::pointer;
use crate::error::{Error, Kind, Result};

/// What is asked for from both ends at first, in bytes. The pickle of a small file lies at its start.
const ENDS: u64 = 64 << 10;
/// The number that a file of torch.save before 1.6 starts with, as pickle writes it from protocol 2 on.
const LEGACY: [u8; 12] = [0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// The same as protocols 0 and 1 write it.
const LEGACY_TEXT: &[u8] = b"L119547037146038801333356L";
/// What stands at byte 257 of a tar archive, which torch wrote before 0.2.
const TAR: &[u8] = b"ustar";

/// Finds the tensors of a PyTorch file, with ranged reads only.
///
/// ```
/// use shardfuse_merge::checkpoint::pickle::{Progress, Reader};
/// # fn contents(file: &[u8]) -> shardfuse_merge::Result<shardfuse_merge::checkpoint::pickle::Contents> {
/// let mut reader = Reader::new(file.len() as u64);
/// loop {
///     match reader.poll()? {
///         Progress::Need(ranges) => {
///             for range in ranges {
///                 reader.supply(range.start, file[range.start as usize..range.end as usize].to_vec());
///             }
///         }
///         Progress::Done(contents) => return Ok(contents),
///     }
/// }
/// # }
/// # assert!(contents(b"no file of torch.save").is_err());
/// ```
#[derive(Debug)]
pub struct Reader {
    size: u64,
    fetched: Fetched,
    phase: Phase,
}

/// What is to be done next.
#[derive(Debug)]
pub enum Progress {
    /// Fetch these ranges, within the object and in ascending order, supply all of them, and poll again.
    Need(Vec<Range<u64>>),
    /// The file is understood.
    Done(Contents),
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The tensors, in the order of the state dict. Tied ones have the same range.
    pub tensors: Vec<PickledTensor>,
    /// Names of entries that are no tensors but plain values (an epoch, a version).
    pub skipped: Vec<String>,
}

/// ```text
/// Ends ──▶ Directory ──▶ Pickle ──▶ Storages ──▶ Done
///   └──────────┴────────────┴───────────┴──────▶ Refused
/// ```
#[derive(Debug)]
enum Phase {
    /// Needs the first and the last bytes of the object.
    Ends,
    /// Needs the central directory.
    Directory(End),
    /// Needs `data.pkl`, and `byteorder` where there is one.
    Pickle(Directory),
    /// Needs the local headers of the storages that are used.
    Storages(Pending),
    Done(Contents),
    Refused(Error),
}

/// Tensors whose storages are not placed yet.
#[derive(Debug)]
struct Pending {
    views: Vec<View>,
    /// The entry and its name of each storage.
    storages: Vec<(Entry, String)>,
    skipped: Vec<String>,
}

impl Reader {
    /// A reader for an object of this many bytes.
    pub fn new(object_size: u64) -> Self {
        Reader { size: object_size, fetched: Fetched::default(), phase: Phase::Ends }
    }

    /// Hands over bytes of the object, beginning at `offset`: the whole of a range that was needed, or more.
    pub fn supply(&mut self, offset: u64, bytes: Vec<u8>) {
        self.fetched.add(offset, bytes);
    }

    /// Goes as far as the bytes at hand allow. The same ranges are needed again until all of them are supplied.
    ///
    /// # Errors
    /// `bad_pickle` where the file is damaged, `unsafe_pickle` where it holds more than tensors, `unsupported` where it
    /// is understood and not read. An error is final: polling again returns it again.
    pub fn poll(&mut self) -> Result<Progress> {
        loop {
            let missing = self.missing().map_err(|e| self.refuse(e))?;
            if !missing.is_empty() {
                return Ok(Progress::Need(missing));
            }
            let next = match mem::replace(&mut self.phase, Phase::Ends) {
                Phase::Ends => self.ends(),
                Phase::Directory(end) => self.directory(&end),
                Phase::Pickle(directory) => self.pickle(&directory),
                Phase::Storages(pending) => self.place(pending),
                Phase::Done(contents) => {
                    self.phase = Phase::Done(contents.clone());
                    return Ok(Progress::Done(contents));
                }
                Phase::Refused(error) => Err(error),
            };
            self.phase = next.map_err(|e| self.refuse(e))?;
        }
    }

    fn refuse(&mut self, error: Error) -> Error {
        self.phase = Phase::Refused(error.clone());
        error
    }

    /// The ranges that the phase reads and that are not here yet.
    fn missing(&self) -> Result<Vec<Range<u64>>> {
        let mut ranges = match &self.phase {
            Phase::Ends if self.size <= 2 * ENDS => iter::once(0..self.size).collect(),
            Phase::Ends => vec![self.head(), self.tail()],
            Phase::Directory(end) => vec![end.directory.clone()],
            Phase::Pickle(directory) => {
                let mut ranges = vec![self.whole(&self.pickle_entry(directory)?, directory)?];
                if let Some(entry) = byte_order(directory)? {
                    ranges.push(self.whole(&entry, directory)?);
                }
                ranges
            }
            Phase::Storages(pending) => pending.storages.iter().map(|(entry, _)| entry.header_range()).collect(),
            Phase::Done(_) | Phase::Refused(_) => Vec::new(),
        };
        ranges.retain(|range| self.fetched.get(range).is_none());
        ranges.sort_by_key(|range| range.start);
        Ok(ranges)
    }

    fn head(&self) -> Range<u64> {
        0..self.size.min(ENDS)
    }

    fn tail(&self) -> Range<u64> {
        self.size.saturating_sub(ENDS)..self.size
    }

    fn bytes(&self, range: &Range<u64>) -> Result<&[u8]> {
        self.fetched.get(range).ok_or_else(|| bad(format!("bytes {}..{} are not there", range.start, range.end)))
    }

    fn ends(&self) -> Result<Phase> {
        recognise(self.bytes(&self.head())?)?;
        let end = end::find(self.bytes(&self.tail())?, self.size)?;
        Ok(Phase::Directory(end))
    }

    fn directory(&self, end: &End) -> Result<Phase> {
        let directory = Directory::parse(self.bytes(&end.directory)?, end)?;
        Ok(Phase::Pickle(directory))
    }

    fn pickle_entry(&self, directory: &Directory) -> Result<Entry> {
        let name = format!("{}/data.pkl", directory.root());
        match directory.find(&name) {
            Some(entry) if entry.size <= MAX_PICKLE => Ok(entry.clone()),
            Some(entry) => Err(bad(format!("{} has {} bytes, the limit is {MAX_PICKLE}", shown(&name), entry.size))),
            None => Err(bad(format!("{} is not there", shown(&name)))),
        }
    }

    /// The range to fetch for all of an entry's data: a guess before its local header is known, then the data.
    fn whole(&self, entry: &Entry, directory: &Directory) -> Result<Range<u64>> {
        match self.fetched.get(&entry.header_range()) {
            Some(header) => entry.data_range(directory.name(entry), header),
            None => Ok(entry.likely_range()),
        }
    }

    fn data(&self, entry: &Entry, directory: &Directory) -> Result<&[u8]> {
        self.bytes(&self.whole(entry, directory)?)
    }

    fn pickle(&self, directory: &Directory) -> Result<Phase> {
        if let Some(entry) = byte_order(directory)? {
            match self.data(&entry, directory)? {
                b"little" => {}
                b"big" => {
                    return Err(unsupported("the file was written on a big-endian machine")
                        .hint("load the file with torch on a little-endian machine and save it again"));
                }
                other => {
                    let other = shown(&String::from_utf8_lossy(other));
                    return Err(bad(format!("byteorder is {other}, expected little or big")));
                }
            }
        }
        let pickled = machine::run(self.data(&self.pickle_entry(directory)?, directory)?)?;
        let state = state::read(&pickled)?;
        let Layout { views, storages } = view::lay_out(&state, &pickled)?;
        let storages = storages.iter().map(|s| storage_entry(s, directory)).collect::<Result<_>>()?;
        let pending = Pending { views, storages, skipped: state.skipped };
        Ok(Phase::Storages(pending))
    }

    fn place(&self, pending: Pending) -> Result<Phase> {
        let place = |(entry, name): &(Entry, String)| entry.data_range(name, self.bytes(&entry.header_range())?);
        let places = pending.storages.iter().map(place).collect::<Result<Vec<_>>>()?;
        let tensors = pending.views.into_iter().map(|view| PickledTensor {
            name: view.name,
            dtype: view.dtype,
            shape: view.shape,
            offset: places[view.storage].start + view.start,
            length: view.length,
        });
        Ok(Phase::Done(Contents { tensors: tensors.collect(), skipped: pending.skipped }))
    }
}

/// The entry that says in which order the bytes of a number stand; torch before 2.1 wrote none.
fn byte_order(directory: &Directory) -> Result<Option<Entry>> {
    let name = format!("{}/byteorder", directory.root());
    match directory.find(&name) {
        Some(entry) if entry.size > 16 => Err(bad(format!("{} has {} bytes", shown(&name), entry.size))),
        found => Ok(found.cloned()),
    }
}

fn storage_entry(storage: &Stored, directory: &Directory) -> Result<(Entry, String)> {
    let name = format!("{}/data/{}", directory.root(), storage.key);
    match directory.find(&name) {
        Some(entry) if entry.size == storage.bytes => Ok((entry.clone(), name)),
        Some(entry) => {
            let (name, has, wants) = (shown(&name), entry.size, storage.bytes);
            Err(bad(format!("storage {name} has {has} bytes, the pickle says {wants}")))
        }
        None => Err(bad(format!("storage {} is not in the archive", shown(&name)))),
    }
}

/// Tells a zip archive from what else is found under such names.
fn recognise(head: &[u8]) -> Result<()> {
    if head.starts_with(b"PK\x03\x04") {
        return Ok(());
    }
    let again = "load it and save it again with a current torch: torch.save(torch.load(path, weights_only=True), path)";
    let start = &head[..head.len().min(64)];
    let is_pickle = start.first() == Some(&0x80) && start.get(1).is_some_and(|protocol| (2..=5).contains(protocol));
    let numbered = is_pickle && start.windows(LEGACY.len()).any(|w| w == LEGACY);
    let tarred = head.get(257..).is_some_and(|rest| rest.starts_with(TAR));
    if numbered || tarred || start.starts_with(LEGACY_TEXT) {
        return Err(unsupported("a file of torch.save before 1.6, or without its zip format").hint(again));
    }
    if is_pickle {
        return Err(unsupported("a pickle in the old form, without torch.save's zip archive").hint(again));
    }
    pointer::refuse(Kind::BadPickle, head.len() as u64, head)?;
    Err(bad("not a file of torch.save: it does not start like a zip archive"))
}
