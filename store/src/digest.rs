//! The BLAKE3 digest of a file, from the digests of its parts.
//!
//! BLAKE3 is a tree over chunks of 1 KiB whose left subtrees are the largest powers of two. If every part but the last
//! is a power of two of KiB and begins at a multiple of its size, each part is a whole subtree: its chaining value can be
//! computed where the part is, in any order, and the values combine to what `b3sum` prints for the file, without anybody
//! reading the file.
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
    let mut digest = Part::new(offset, part.len() as u64, file_size);
    digest.update(part);
    digest.finish()
}

/// The digest of a part whose bytes come one after another.
#[derive(Debug, Clone)]
pub struct Part {
    hasher: blake3::Hasher,
    whole: bool,
}

impl Part {
    /// A part of this length that begins at `offset` of a file of `file_size` bytes.
    ///
    /// # Panics
    /// As [`chaining_value`].
    pub fn new(offset: u64, length: u64, file_size: u64) -> Part {
        let whole = offset == 0 && length == file_size;
        let mut hasher = blake3::Hasher::new();
        hasher.set_input_offset(offset);
        Part { hasher, whole }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.hasher.update(bytes);
    }

    /// The digest of all bytes that were taken.
    pub fn finish(self) -> Digest {
        match self.whole {
            true => self.hasher.finalize().into(),
            false => self.hasher.finalize_non_root(),
        }
    }
}

/// The digest of the file whose parts, in order, have these values and sizes in bytes. Each part is a subtree: it begins at a
/// multiple of a power of two that it fits into, and only the last is not that power of two. No parts are the empty file.
///
/// # Panics
/// If the lists differ in length.
pub fn combine(parts: &[Digest], sizes: &[u64]) -> Digest {
    assert_eq!(parts.len(), sizes.len(), "a size for each part");
    match parts {
        [] => blake3::hash(b"").into(),
        [whole] => *whole,
        _ => {
            let (left, right, at) = halves(sizes);
            merge_subtrees_root(&subtree(&parts[..at], left), &subtree(&parts[at..], right), Mode::Hash).into()
        }
    }
}

/// The chaining value of neighbours that together are a subtree, but not the whole file.
///
/// # Panics
/// If there are none, or the lists differ in length.
pub fn subtree(parts: &[Digest], sizes: &[u64]) -> Digest {
    match parts {
        [part] => *part,
        _ => {
            let (left, right, at) = halves(sizes);
            merge_subtrees_non_root(&subtree(&parts[..at], left), &subtree(&parts[at..], right), Mode::Hash)
        }
    }
}

/// The sizes of the parts in the left and the right subtree, and how many are in the left one: it has the largest power of two
/// of bytes that is below all of them.
fn halves(sizes: &[u64]) -> (&[u64], &[u64], usize) {
    let total: u64 = sizes.iter().sum();
    let left = 1u64 << (total - 1).ilog2();
    let mut sum = 0;
    let at = sizes.iter().take_while(|size| {
        sum += **size;
        sum <= left
    });
    let at = at.count().clamp(1, sizes.len() - 1);
    let (one, other) = sizes.split_at(at);
    (one, other, at)
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
        let sizes: Vec<u64> = bytes.chunks(part_size).map(|part| part.len() as u64).collect();
        combine(&values, &sizes)
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

    /// Cuts like those of a plan: whole powers of two, each at a multiple of itself.
    fn cut(start: u64, length: u64, size: u64, choices: &mut impl Iterator<Item = bool>, ends: &mut Vec<u64>) {
        if start >= size {
            return;
        }
        if length > 1024 && choices.next().unwrap_or(false) {
            cut(start, length / 2, size, choices, ends);
            cut(start + length / 2, length / 2, size, choices, ends);
        } else {
            ends.push((start + length).min(size));
        }
    }

    proptest! {
        #[test]
        fn parts_of_any_sizes_combine_to_the_hash_of_the_whole(
            size in 1u64..400_000,
            choices in prop::collection::vec(any::<bool>(), 0..200),
            cell in 0u32..10,
        ) {
            let bytes: Vec<u8> = (0..size).map(|i| (i >> 3) as u8 ^ i as u8).collect();
            let (mut ends, mut choices, cell) = (Vec::new(), choices.into_iter(), 1024u64 << cell);
            for start in (0..size).step_by(cell as usize) {
                cut(start, cell, size, &mut choices, &mut ends);
            }
            let starts: Vec<u64> = [0].into_iter().chain(ends.iter().copied()).collect();
            let ranges = starts.iter().zip(&ends).map(|(start, end)| *start..*end);
            let values: Vec<Digest> =
                ranges.clone().map(|r| chaining_value(&bytes[r.start as usize..r.end as usize], r.start, size)).collect();
            let sizes: Vec<u64> = ranges.map(|r| r.end - r.start).collect();
            prop_assert_eq!(combine(&values, &sizes), Digest::from(blake3::hash(&bytes)), "{:?}", sizes);
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
