//! The records at the end of a zip archive that say where its central directory lies (APPNOTE.TXT 4.3.14 to 4.3.16).
//!
//! Read strictly, so that there is one interpretation only: the records stand at the very end, without a comment or a
//! gap, as `torch.save` writes them. Searching backwards for a record, as unzip tools do, lets a file be two archives.

use std::ops::Range;

use super::cursor::Cursor;
use super::limits::{MAX_DIRECTORY, MAX_ENTRIES};
use super::refuse::bad;
use crate::error::Result;

const END: usize = 22;
const LOCATOR: usize = 20;
const END64: usize = 56;
/// The shortest entry of a central directory.
const SHORTEST: u64 = 46;

/// What the records say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct End {
    pub(super) entries: u64,
    /// Where the central directory lies in the object.
    pub(super) directory: Range<u64>,
}

/// One end record, of either width.
struct Record {
    disks: [u32; 2],
    entries: [u64; 2],
    size: u64,
    offset: u64,
}

/// Finds the central directory; `tail` are the last bytes of an object of `object_size` bytes.
pub(super) fn find(tail: &[u8], object_size: u64) -> Result<End> {
    let (before, last) = tail.split_at(tail.len().saturating_sub(END));
    let narrow = record32(last).ok_or_else(|| {
        bad(format!("the {object_size} bytes do not end with a zip directory"))
            .hint("the file was cut off or something was appended to it; fetch it again")
    })?;
    let (before, locator) = before.split_at(before.len().saturating_sub(LOCATOR));
    let (record, records) = match located(locator) {
        Some(location) => {
            let records = (END + LOCATOR + END64) as u64;
            let at = object_size.checked_sub(records);
            let wide = record64(&before[before.len().saturating_sub(END64)..]);
            let (Some(wide), true) = (wide, at == Some(location)) else {
                return Err(bad(format!("the zip64 end record is not where it should be, at byte {location}")));
            };
            agree(&narrow, &wide)?;
            (wide, records)
        }
        None => (narrow, END as u64),
    };
    check(&record, object_size - records)
}

fn check(record: &Record, end: u64) -> Result<End> {
    if record.disks != [0, 0] || record.entries[0] != record.entries[1] {
        return Err(bad("the zip archive is one of several parts"));
    }
    let (entries, size, offset) = (record.entries[0], record.size, record.offset);
    if offset.checked_add(size) != Some(end) {
        return Err(bad(format!("the zip directory has {size} bytes at byte {offset}, it should end at byte {end}")));
    }
    if size > MAX_DIRECTORY {
        return Err(bad(format!("the zip directory has {size} bytes, the limit is {MAX_DIRECTORY}")));
    }
    if entries > MAX_ENTRIES {
        return Err(bad(format!("the zip archive has {entries} entries, the limit is {MAX_ENTRIES}")));
    }
    if entries * SHORTEST > size {
        return Err(bad(format!("a zip directory of {size} bytes cannot hold {entries} entries")));
    }
    Ok(End { entries, directory: offset..end })
}

/// The narrow record must repeat the wide one, or be saturated where it cannot.
fn agree(narrow: &Record, wide: &Record) -> Result<()> {
    let same = |narrow: u64, wide: u64, saturated: u64| narrow == wide || narrow == saturated;
    let entries = u64::from(u16::MAX);
    let bytes = u64::from(u32::MAX);
    if same(narrow.entries[0], wide.entries[0], entries)
        && same(narrow.entries[1], wide.entries[1], entries)
        && same(narrow.size, wide.size, bytes)
        && same(narrow.offset, wide.offset, bytes)
    {
        return Ok(());
    }
    Err(bad(format!(
        "the zip end records disagree: {} entries at byte {}, or {} entries at byte {}",
        narrow.entries[0], narrow.offset, wide.entries[0], wide.offset
    )))
}

fn record32(bytes: &[u8]) -> Option<Record> {
    let mut c = Cursor::new(bytes);
    (c.u32()? == 0x0605_4b50).then_some(())?;
    let disks = [c.u16()?.into(), c.u16()?.into()];
    let entries = [c.u16()?.into(), c.u16()?.into()];
    let (size, offset) = (c.u32()?.into(), c.u32()?.into());
    (c.u16()? == 0).then_some(Record { disks, entries, size, offset })
}

/// The place of the zip64 end record, where `bytes` are a locator.
fn located(bytes: &[u8]) -> Option<u64> {
    let mut c = Cursor::new(bytes);
    (c.u32()? == 0x0706_4b50 && c.u32()? == 0).then_some(())?;
    let location = c.u64()?;
    (c.u32()? == 1).then_some(location)
}

fn record64(bytes: &[u8]) -> Option<Record> {
    let mut c = Cursor::new(bytes);
    (c.u32()? == 0x0606_4b50 && c.u64()? == END64 as u64 - 12).then_some(())?;
    c.take(4)?;
    let disks = [c.u32()?, c.u32()?];
    let entries = [c.u64()?, c.u64()?];
    Some(Record { disks, entries, size: c.u64()?, offset: c.u64()? })
}
