//! Parts that are made of pieces: bytes that are written, and ranges of other files.
//!
//! The whole blocks of a range are shared where the file system can do that ([`share`]). What is left of a block at its two ends is
//! copied within the kernel, as is a range whose two offsets have different places in their blocks.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{copy_file_range, fstatvfs};
use rustix::io::{Errno, retry_on_intr};

use super::fence::Fence;
use super::file::{open_regular, stat};
use super::read::{Source, fill, pinned};
use super::share::{self, Blocks, cannot};
use super::upload::{Part, uploads};
use super::{folder, mount};
use crate::chunk::{Chunk, Copies};
use crate::error::{Error, ErrorKind, Result};
use crate::id::{PartId, UploadId};
use crate::location::Location;
use crate::store::PartSlot;

/// How much is copied through memory at a time, where the kernel does not copy.
const PIECE: u64 = 1 << 20;

/// Tries one block. On NFS 4.2 nothing is tried: the server copies any range.
pub(super) fn copies(fence: &Fence, from: &Location, to: &Location) -> Result<Copies> {
    if from.local_path().is_none() {
        return Ok(Copies::none(format!("{from} is in another store")));
    }
    let source = open_regular(fence, from)?;
    let dir = uploads(to)?;
    if mount::copies_on_server(&dir) && is_same_device(from, &source, &dir)? {
        return Ok(Copies::Pieces { block: 1 });
    }
    match share::try_sharing(&source, &dir) {
        Ok(block) => Ok(Copies::Pieces { block }),
        Err(Errno::XDEV) => Ok(Copies::none(format!("{from} is on another file system"))),
        Err(e) if cannot(e) => Ok(Copies::none("its file system shares no blocks between files")),
        Err(e) => Err(Error::io(to, format!("cannot try to share a block with {from}"), e)),
    }
}

fn is_same_device(from: &Location, source: &File, dir: &Path) -> Result<bool> {
    let near = folder::nearest_existing(dir);
    let there = std::fs::metadata(near).map_err(|e| Error::io(near.display(), "cannot look it up", e))?;
    Ok(stat(from, source)?.dev() == there.dev())
}

pub(super) fn compose_part(
    from: Source<'_>,
    at: &Location,
    upload: &UploadId,
    part: PartSlot,
    chunks: &[Chunk],
) -> Result<PartId> {
    let (put, copied) = Chunk::sums(chunks);
    let part = Part::open(at, upload, part, put.saturating_add(copied))?;
    let mut offset = part.start();
    for chunk in chunks {
        match chunk {
            Chunk::Bytes(bytes) => part.write(bytes, offset)?,
            Chunk::Copy { from: other, .. } if other.local_path().is_none() => {
                return Err(Error::new(ErrorKind::Unsupported, other, "is in another store"));
            }
            Chunk::Copy { from: other, range, pin } => {
                pinned(from, other, pin, |file| copy((other, file), range, &part, offset))?;
            }
        }
        offset += chunk.length();
    }
    part.finish()
}

/// Copies a range of a file to an offset of the part.
fn copy((from, source): (&Location, &File), range: &Range<u64>, part: &Part<'_>, to: u64) -> Result<()> {
    let size = stat(from, source)?.len();
    if range.end > size {
        let message = format!("ends at {size}, the bytes up to {} were wanted", range.end);
        return Err(Error::new(ErrorKind::ShortRead, from, message));
    }
    let by_server = mount::is_nfs(part.file());
    let block = if by_server { 1 } else { fstatvfs(part.file()).map_err(|e| part.failed(e))?.f_frsize.max(1) };
    let Some(whole) = whole_blocks(range, to, block).filter(|_| !by_server) else {
        return copy_bytes((from, source), range.clone(), part, to);
    };
    copy_bytes((from, source), range.start..whole.start, part, to)?;
    let shift = |offset: u64| to + (offset - range.start);
    let blocks = Blocks { from: whole.start, to: shift(whole.start), length: whole.end - whole.start };
    match share::share(source, part.file(), &blocks) {
        Ok(()) => {}
        // Reading and putting costs no more here, and the caller sees the bytes.
        Err(e) if cannot(e) => {
            let message = format!("shares no blocks with {}", part.at());
            return Err(Error::new(ErrorKind::Unsupported, from, message).with_source(e));
        }
        Err(e) => return Err(Error::io(from, format!("cannot share blocks with {}", part.at()), e)),
    }
    copy_bytes((from, source), whole.end..range.end, part, shift(whole.end))
}

/// The whole blocks of a range that goes to an offset; `None` where there are none, or where the two have different places in their
/// blocks.
fn whole_blocks(range: &Range<u64>, to: u64, block: u64) -> Option<Range<u64>> {
    if range.start % block != to % block {
        return None;
    }
    let whole = range.start.checked_next_multiple_of(block)?..range.end - range.end % block;
    (whole.start < whole.end).then_some(whole)
}

/// Copies bytes that are not whole blocks, within the kernel where that is possible.
fn copy_bytes((from, source): (&Location, &File), range: Range<u64>, part: &Part<'_>, to: u64) -> Result<()> {
    let (mut at, mut to) = (range.start, to);
    while at < range.end {
        let wanted = usize::try_from(range.end - at).unwrap_or(usize::MAX);
        match retry_on_intr(|| copy_file_range(source, Some(&mut at), part.file(), Some(&mut to), wanted)) {
            // Some file systems copy nothing of a file that has bytes; a file that was cut short is seen by the read.
            Ok(0) => return copy_through_memory((from, source), at..range.end, part, to),
            Ok(_) => {}
            Err(e) if cannot(e) => return copy_through_memory((from, source), at..range.end, part, to),
            Err(e) => return Err(Error::io(from, format!("cannot copy it into {}", part.at()), e)),
        }
    }
    Ok(())
}

fn copy_through_memory(
    (from, source): (&Location, &File),
    range: Range<u64>,
    part: &Part<'_>,
    mut to: u64,
) -> Result<()> {
    let mut buffer = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let length = PIECE.min(range.end - at);
        buffer.resize(length as usize, 0);
        fill(from, source, &mut buffer, at)?;
        part.write(&buffer, to)?;
        at += length;
        to += length;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_lie_at_the_same_place_in_both_files() {
        for (range, to, expected) in [
            (0..8192, 0, Some(0..8192)),
            (0..8192, 4096 * 77, Some(0..8192)),
            (100..12_388, 4196, Some(4096..12_288)),
            (1..4095, 1, None),
            (1..4097, 1, None),
            (1..8192, 4097, Some(4096..8192)),
            (4096..8191, 0, None),
            (0..8192, 1, None),
            (1..9000, 0, None),
            (4096..4096, 0, None),
            (u64::MAX - 10..u64::MAX, u64::MAX - 10, None),
        ] {
            assert_eq!(whole_blocks(&range, to, 4096), expected, "{range:?} to {to}");
        }
    }
}
