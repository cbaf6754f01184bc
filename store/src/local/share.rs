//! Two files that share blocks: the second one refers to the blocks of the first, and no byte moves.
//!
//! XFS (made with `reflink=1`, which is its default), Btrfs and Bcachefs do it. No list of file systems says what a place does, since
//! it depends on how a file system was made and what is mounted over it. So it is tried.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::path::Path;

use rustix::fs::{Mode, OFlags, fstatvfs};
use rustix::io::{Errno, retry_on_intr};
use rustix::ioctl::{Opcode, Setter, ioctl, opcode};

use super::folder;

/// A range of whole blocks. The length may be 0, which means all that follows.
pub(super) struct Blocks {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) length: u64,
}

/// `struct file_clone_range` of `linux/fs.h`.
#[repr(C)]
struct Range {
    source: i64,
    source_offset: u64,
    source_length: u64,
    target_offset: u64,
}

/// `FICLONERANGE`.
const CLONE_RANGE: Opcode = opcode::write::<Range>(0x94, 13);

/// Lets a range of `target` refer to the blocks of `source`.
pub(super) fn share(source: &File, target: impl AsFd, blocks: &Blocks) -> rustix::io::Result<()> {
    retry_on_intr(|| {
        let range = Range {
            source: source.as_raw_fd().into(),
            source_offset: blocks.from,
            source_length: blocks.length,
            target_offset: blocks.to,
        };
        // SAFETY: FICLONERANGE reads one `struct file_clone_range`, which `Range` is, and no other memory of this process. The
        // descriptor in it is open while `source` is borrowed.
        unsafe { ioctl(&target, Setter::<CLONE_RANGE, Range>::new(range)) }
    })
}

/// Whether the file system has this errno for what it cannot do, rather than for what went wrong.
pub(super) fn cannot(errno: Errno) -> bool {
    // NOTTY: no such request. INVAL: offsets that the file system does not share. PERM and TXTBSY: a file that may not change.
    [Errno::NOTSUP, Errno::NOTTY, Errno::NOSYS, Errno::XDEV, Errno::INVAL, Errno::PERM, Errno::TXTBSY].contains(&errno)
}

/// The size of the blocks that a new file in a folder can share with an open file; the errno if it cannot. The folder need not exist
/// yet. Nothing is left behind: the file of the trial has no name.
pub(super) fn try_sharing(source: &File, dir: &Path) -> rustix::io::Result<u64> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let trial = rustix::fs::open(folder::nearest_existing(dir), flags, Mode::RUSR | Mode::WUSR)?;
    let block = fstatvfs(&trial)?.f_frsize.max(1);
    let size = source.metadata().map_err(|e| Errno::from_io_error(&e).unwrap_or(Errno::IO))?.len();
    // A range that ends with the file need not be whole blocks.
    let length = if size < block { 0 } else { block };
    share(source, &trial, &Blocks { from: 0, to: 0, length })?;
    Ok(block)
}
