//! The BLAKE3 digest of a file, from the digests of its parts.
//!
//! BLAKE3 is a tree over chunks of 1 KiB whose left subtrees are the largest powers of two. If every part but the last
//! is the same power of two of KiB, each part is a whole subtree: its chaining value can be computed where the part is,
//! in any order, and the values combine to what `b3sum` prints for the file, without anybody reading the file.
//!
//! A file of a single part is not a subtree but the whole tree, so its part's value is the plain hash.

use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};

/// A BLAKE3 hash, or the chaining value of a part.
pub type Digest = [u8; 32];

/// Whether parts of this many bytes are whole subtrees: a power of two, of at least 1 KiB.
pub fn is_part_size(bytes: u64) -> bool {
    bytes >= blake3::CHUNK_LEN as u64 && bytes.is_power_of_two()
}

/// The digest of the part that begins at `offset` of a file of `file_size` bytes.
///
/// # Panics
/// If the part is no subtree of the file: `offset` is not a multiple of a part size ([`is_part_size`]) that `part`
/// fits into. Whoever takes sizes from elsewhere checks them first.
pub fn chaining_value(part: &[u8], offset: u64, file_size: u64) -> Digest {
    if offset == 0 && part.len() as u64 == file_size {
        return blake3::hash(part).into();
    }
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(part);
    hasher.finalize_non_root()
}

/// The digest of the file whose parts, in order, have these values. No parts are the empty file.
pub fn combine(parts: &[Digest]) -> Digest {
    match parts {
        [] => blake3::hash(b"").into(),
        [whole] => *whole,
        _ => {
            let (left, right) = parts.split_at(left_of(parts.len()));
            merge_subtrees_root(&subtree(left), &subtree(right), Mode::Hash).into()
        }
    }
}

fn subtree(parts: &[Digest]) -> Digest {
    match parts {
        [part] => *part,
        _ => {
            let (left, right) = parts.split_at(left_of(parts.len()));
            merge_subtrees_non_root(&subtree(left), &subtree(right), Mode::Hash)
        }
    }
}

/// The largest power of two below `parts`, which is at least 2.
fn left_of(parts: usize) -> usize {
    1 << (parts - 1).ilog2()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn by_parts(bytes: &[u8], part_size: usize) -> Digest {
        let values: Vec<Digest> = bytes
            .chunks(part_size)
            .enumerate()
            .map(|(i, part)| chaining_value(part, (i * part_size) as u64, bytes.len() as u64))
            .collect();
        combine(&values)
    }

    #[test]
    fn sizes_around_every_boundary() {
        let bytes: Vec<u8> = (0..300_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for part_size in [1024, 2048, 16384, 65536] {
            for parts in [0, 1, 2, 3, 4, 5, 7, 8, 9] {
                for extra in [-1025, -1024, -1, 0, 1, 1023, 1024, 1025] {
                    let size = (parts * part_size as i64 + extra).clamp(0, bytes.len() as i64) as usize;
                    let whole: Digest = blake3::hash(&bytes[..size]).into();
                    assert_eq!(by_parts(&bytes[..size], part_size), whole, "{size} bytes in parts of {part_size}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn combined_equals_the_hash_of_the_whole(size in 0usize..400_000, k in 0u32..9, seed: u8) {
            let bytes: Vec<u8> = (0..size).map(|i| (i as u8).wrapping_mul(seed) ^ (i >> 8) as u8).collect();
            prop_assert_eq!(by_parts(&bytes, 1024 << k), Digest::from(blake3::hash(&bytes)));
        }
    }

    #[test]
    fn a_single_part_has_the_plain_hash() {
        assert_eq!(chaining_value(b"abc", 0, 3), Digest::from(blake3::hash(b"abc")));
        assert_ne!(chaining_value(b"abc", 0, 4), Digest::from(blake3::hash(b"abc")));
    }

    #[test]
    fn part_sizes_are_powers_of_two_of_kib() {
        assert!(is_part_size(1024) && is_part_size(64 << 20));
        assert!(!is_part_size(0) && !is_part_size(512) && !is_part_size(3 << 10));
    }
}
