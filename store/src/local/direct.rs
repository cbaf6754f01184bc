//! Parts written past the page cache.
//!
//! What is written once, in large pieces, and must reach the disk anyway gains nothing from the page cache: there it
//! is copied into fresh pages, pushes out the input that is still to be read, counts as memory of the container, and
//! once enough of it is dirty the kernel stops the writers. What two writers of 64 MiB parts reached on two cores and a
//! virtual disk, sync included, each range over several runs:
//!
//! | | otherwise idle | two busy builds beside it | CPU time a GiB |
//! |---|---|---|---|
//! | direct | 1.0-1.5 GB/s | 0.5-1.6 GB/s | 0.1 s aligned, 0.3 s copied |
//! | buffered | 0.2-0.9 GB/s | 0.1-0.4 GB/s | 3-4 s |
//! | buffered, early background sync | 0.8-1.0 GB/s | 0.1-0.8 GB/s | 1-4 s |
//!
//! Memory that begins at a multiple of 4096 bytes is written as it is; other memory is copied piece by piece.
//! `cargo run --release -p shardfuse-store --example upload_speed` measures the store as it is.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// What memory, offsets and lengths must be multiples of: the largest logical block of disks.
const BLOCK: usize = 4096;
/// Less than this goes through the page cache.
const LEAST: usize = 1 << 20;
/// How much is brought into alignment at a time, where the caller's memory is not aligned.
const PIECE: usize = 4 << 20;

/// Writes all bytes at an offset, directly as far as that is possible: the file system may not offer it, and a file's
/// last bytes need not fill a block. Nobody else may use the open file meanwhile.
pub(super) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let whole_blocks = bytes.len() - bytes.len() % BLOCK;
    let mut written = 0;
    if bytes.len() >= LEAST && offset.is_multiple_of(BLOCK as u64) && set_direct(file, true)? {
        let result = write_blocks(file, &bytes[..whole_blocks], offset);
        set_direct(file, false)?;
        written = result?;
    }
    file.write_all_at(&bytes[written..], offset + written as u64)
}

/// Writes whole blocks, and returns how many bytes of them the file system took.
fn write_blocks(file: &File, bytes: &[u8], offset: u64) -> io::Result<usize> {
    let aligned = bytes.as_ptr().align_offset(BLOCK) == 0;
    let mut room = if aligned { Vec::new() } else { vec![0; PIECE.min(bytes.len()) + BLOCK] };
    let start = room.as_ptr().align_offset(BLOCK).min(room.len());
    let mut written = 0;
    while written < bytes.len() {
        let rest = &bytes[written..];
        let piece = if aligned {
            rest
        } else {
            let length = rest.len().min(PIECE);
            let copy = &mut room[start..start + length];
            copy.copy_from_slice(&rest[..length]);
            copy
        };
        match file.write_at(piece, offset + written as u64) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => written += length,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            // The disk wants larger blocks, or the last call ended within one.
            Err(e) if Errno::from_io_error(&e) == Some(Errno::INVAL) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(written)
}

/// Turns direct writing on or off; whether it is as wanted now.
fn set_direct(file: &File, on: bool) -> io::Result<bool> {
    let mut flags = fcntl_getfl(file)?;
    flags.set(OFlags::DIRECT, on);
    match fcntl_setfl(file, flags) {
        Ok(()) => Ok(true),
        Err(Errno::INVAL | Errno::NOTSUP) if on => Ok(false),
        Err(e) => Err(e.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_length_and_alignment_arrives() {
        let file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..3 * PIECE + 5000).map(|i| ((i * 31) >> 3) as u8).collect();
        let to_block = bytes.as_ptr().align_offset(BLOCK);
        let mut end = 0;
        for (skip, length, offset) in [
            (to_block, 2 * PIECE, 0),
            (to_block + 1, 2 * PIECE + 4097, 2 * PIECE),
            (to_block, LEAST, 4 * PIECE + 4097),
            (3, LEAST - 1, 5 * PIECE + BLOCK),
            (0, 0, 0),
            (5, LEAST + 1, 6 * PIECE),
        ] {
            write_all_at(&file, &bytes[skip..skip + length], offset as u64).unwrap();
            let mut read = vec![0; length];
            file.read_exact_at(&mut read, offset as u64).unwrap();
            assert!(read == bytes[skip..skip + length], "{length} bytes at {offset}");
            end = end.max(offset + length);
            assert_eq!(file.metadata().unwrap().len(), end as u64);
        }
        assert!(!fcntl_getfl(&file).unwrap().contains(OFlags::DIRECT));
    }
}
