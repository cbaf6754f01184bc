//! What a file must hold, as far as it is known, and whether it does.

use std::ops::Range;

use futures::{StreamExt, TryStreamExt, stream};
use shardfuse_merge::output::Parts;
use shardfuse_merge::output::manifest::{ManifestFile, Unread};
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::{Location, Pin, Store, Stores, digest};

use crate::failure::{io, location};

/// Bytes that are read at a time to digest or compare, and how many such reads run ahead.
const CHUNK: (u64, usize) = (8 << 20, 4);

/// What a file must hold.
#[derive(Debug, Clone)]
pub struct Content {
    /// Its size in bytes.
    pub size: u64,
    /// BLAKE3 of all of it, if every part was read.
    pub hash: Option<blake3::Hash>,
    /// Its parts in order; none for a small file.
    pub parts: Vec<Part>,
}

/// What a part must hold.
#[derive(Debug, Clone)]
pub struct Part {
    /// Its bytes in the file.
    pub bytes: Range<u64>,
    /// What is known of them.
    pub known: Known,
}

/// What is known of a part's bytes.
#[derive(Debug, Clone)]
pub enum Known {
    /// Their BLAKE3 chaining value.
    Digest(digest::Digest),
    /// They are a range of an input that nobody read, from this byte on.
    Copy {
        /// The input.
        url: String,
        /// Its version.
        pin: String,
        /// Where they begin in it.
        from: u64,
    },
}

impl Content {
    /// A small file.
    pub fn whole(size: u64, hash: blake3::Hash) -> Content {
        Content { size, hash: Some(hash), parts: Vec::new() }
    }

    /// A weight file of these parts.
    pub fn of(size: u64, parts: Vec<Part>) -> Content {
        let digests = parts.iter().map(|part| match &part.known {
            Known::Digest(digest) => Some(*digest),
            Known::Copy { .. } => None,
        });
        let digests: Option<Vec<digest::Digest>> = digests.collect();
        let sizes: Vec<u64> = parts.iter().map(|part| part.bytes.end - part.bytes.start).collect();
        let hash = digests.map(|digests| blake3::Hash::from_bytes(digest::combine(&digests, &sizes)));
        Content { size, hash, parts }
    }

    /// What a manifest says of a file.
    ///
    /// # Errors
    /// `verify_failed` if its parts do not fit together.
    pub fn told(file: &ManifestFile, part_size: u64) -> Result<Content> {
        let broken =
            |what: &str| Error::new(Kind::VerifyFailed, format!("the manifest's entry of {} {what}", file.name));
        let hash = match &file.blake3 {
            Some(text) => Some(blake3::Hash::from_hex(text).map_err(|_| broken("has no BLAKE3 digest"))?),
            None => None,
        };
        let cut = match (file.parts.is_empty(), file.ends.is_empty()) {
            (true, _) => None,
            // Outputs of earlier versions may have any part size.
            (false, true) => digest::is_part_size(part_size).then(|| Parts::even(file.size, part_size)),
            (false, false) => Some(Parts::read(&file.ends, file.size).ok_or_else(|| broken("has parts in disorder"))?),
        };
        let mut parts = Vec::new();
        for (bytes, digest) in cut.iter().flat_map(Parts::iter).zip(&file.parts) {
            let known = match digest {
                Some(text) => {
                    let digest = blake3::Hash::from_hex(text).map_err(|_| broken("has a part without a digest"))?;
                    Known::Digest(*digest.as_bytes())
                }
                None => {
                    let holds = |u: &&Unread| u.offset <= bytes.start && bytes.end <= u.offset.saturating_add(u.length);
                    let unread = file.unread.iter().find(holds);
                    let unread = unread.ok_or_else(|| broken("has a part without a digest and without a source"))?;
                    let from = unread.from.saturating_add(bytes.start - unread.offset);
                    Known::Copy { url: unread.url.clone(), pin: unread.pin.clone(), from }
                }
            };
            parts.push(Part { bytes, known });
        }
        Ok(Content { size: file.size, hash, parts })
    }

    /// As the manifest has it.
    pub fn entry(&self, name: &str, part_size: u64) -> ManifestFile {
        let mut unread: Vec<Unread> = Vec::new();
        for Part { bytes, known } in &self.parts {
            let Known::Copy { url, pin, from } = known else { continue };
            let length = bytes.end - bytes.start;
            match unread.last_mut() {
                Some(last)
                    if last.offset + last.length == bytes.start
                        && last.from + last.length == *from
                        && (&last.url, &last.pin) == (url, pin) =>
                {
                    last.length += length;
                }
                _ => {
                    unread.push(Unread { offset: bytes.start, length, url: url.clone(), pin: pin.clone(), from: *from })
                }
            }
        }
        let hex = |digest: &digest::Digest| blake3::Hash::from_bytes(*digest).to_hex().to_string();
        let parts = self.parts.iter().map(|part| match &part.known {
            Known::Digest(digest) => Some(hex(digest)),
            Known::Copy { .. } => None,
        });
        let ends: Vec<u64> = self.parts.iter().map(|part| part.bytes.end).collect();
        let even = Parts::even(self.size, part_size).iter().map(|part| part.end).eq(ends.iter().copied());
        ManifestFile {
            name: name.to_owned(),
            size: self.size,
            blake3: self.hash.map(|hash| hash.to_hex().to_string()),
            parts: parts.collect(),
            ends: if even { Vec::new() } else { ends },
            unread,
        }
    }

    /// Whether what is in place holds this. What nobody read is compared with its source.
    ///
    /// # Errors
    /// If it cannot be read, or a source is not the version that was copied.
    pub async fn is_in(&self, stores: &Stores, at: &Location, pin: Option<&Pin>) -> Result<bool> {
        let store = &*stores.open(at);
        match self.hash {
            Some(hash) => Ok(hash_file(store, at, self.size, pin).await? == hash),
            None => {
                for part in &self.parts {
                    if !part.is_in(stores, store, (at, self.size), pin).await? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

impl Part {
    /// Whether a file of this size holds it.
    ///
    /// # Errors
    /// If it cannot be read, or the source is not the version that was copied.
    pub async fn is_in(
        &self,
        stores: &Stores,
        store: &dyn Store,
        (at, size): (&Location, u64),
        pin: Option<&Pin>,
    ) -> Result<bool> {
        let Range { start, end } = self.bytes;
        let (chunk, ahead) = CHUNK;
        let length = |offset: u64| chunk.min(end - offset) as usize;
        let offsets = stream::iter((start..end).step_by(chunk as usize));
        match &self.known {
            Known::Digest(expected) => {
                let read = |offset| store.read(at, offset, vec![0; length(offset)], pin);
                let mut chunks = offsets.map(read).buffered(ahead).boxed();
                let mut digest = digest::Part::new(start, end - start, size);
                while let Some(bytes) = chunks.try_next().await.map_err(io)? {
                    digest.update(&bytes);
                }
                Ok(digest.finish() == *expected)
            }
            Known::Copy { url, pin: version, from } => {
                let (source, version) = (location(url)?, Pin::new(version));
                let theirs = &*stores.open(&source);
                let (source, version) = (&source, &version);
                let both = |offset: u64| async move {
                    let ours = store.read(at, offset, vec![0; length(offset)], pin);
                    let other = theirs.read(source, from + (offset - start), vec![0; length(offset)], Some(version));
                    futures::try_join!(ours, other)
                };
                let mut chunks = offsets.map(both).buffered(ahead).boxed();
                while let Some((ours, other)) = chunks.try_next().await.map_err(io)? {
                    if ours != other {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
        }
    }
}

/// BLAKE3 of a file, as `b3sum` prints it.
pub async fn hash_file(store: &dyn Store, at: &Location, size: u64, pin: Option<&Pin>) -> Result<blake3::Hash> {
    let (chunk, ahead) = CHUNK;
    let mut chunks = stream::iter((0..size).step_by(chunk as usize))
        .map(|offset| store.read(at, offset, vec![0; chunk.min(size - offset) as usize], pin))
        .buffered(ahead)
        .boxed();
    let mut hasher = blake3::Hasher::new();
    while let Some(bytes) = chunks.try_next().await.map_err(io)? {
        hasher.update(&bytes);
    }
    Ok(hasher.finalize())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shardfuse_store::memory::Memory;

    use super::*;

    const PART: u64 = 1024;

    fn digest_of(bytes: &[u8], range: &Range<u64>) -> Known {
        let part = &bytes[range.start as usize..range.end as usize];
        Known::Digest(digest::chaining_value(part, range.start, bytes.len() as u64))
    }

    /// 5000 bytes in parts of 1024, 1024, 2048 and 904, of which the third was copied from byte 7 of an input.
    async fn case() -> (Stores, Location, Vec<u8>, Content) {
        let stores = Stores::all(Arc::new(Memory::new()));
        let bytes: Vec<u8> = (0..5000u32).map(|i| ((i * i) >> 5) as u8).collect();
        let (at, from): (Location, Location) = ("s3://b/out".parse().unwrap(), "s3://b/base".parse().unwrap());
        let source = [&[1; 7], &bytes[2048..4096], &[2; 9]].concat();
        stores.open(&from).put(&from, source.into()).await.unwrap();
        stores.open(&at).put(&at, bytes.clone().into()).await.unwrap();
        let pin = stores.open(&from).head(&from).await.unwrap().pin;
        let copy = Known::Copy { url: from.to_string(), pin: pin.as_str().into(), from: 7 };
        let parts = [0..1024, 1024..2048, 2048..4096, 4096..5000].map(|bytes_of: Range<u64>| Part {
            known: if bytes_of.start == 2048 { copy.clone() } else { digest_of(&bytes, &bytes_of) },
            bytes: bytes_of,
        });
        (stores, at, bytes.clone(), Content::of(5000, parts.into()))
    }

    #[tokio::test]
    async fn bytes_that_nobody_read_are_held_against_their_source() {
        let (stores, at, bytes, content) = case().await;
        assert_eq!(content.hash, None, "not all parts were read");
        assert!(content.is_in(&stores, &at, None).await.unwrap());
        for changed in [0, 2047, 2048, 4095, 4999] {
            let mut other = bytes.clone();
            other[changed] ^= 1;
            stores.open(&at).put(&at, other.into()).await.unwrap();
            assert!(!content.is_in(&stores, &at, None).await.unwrap(), "byte {changed} differs");
        }
        stores.open(&at).put(&at, bytes.into()).await.unwrap();
        let from: Location = "s3://b/base".parse().unwrap();
        stores.open(&from).put(&from, vec![0; 2064].into()).await.unwrap();
        let error = content.is_in(&stores, &at, None).await.unwrap_err();
        assert_eq!(error.kind(), Kind::InputChanged, "{error}");
    }

    #[tokio::test]
    async fn an_entry_of_a_manifest_says_what_is_known() {
        let (_, _, bytes, content) = case().await;
        let entry = content.entry("f", PART);
        assert_eq!(
            (entry.blake3.as_ref(), entry.parts.len(), entry.ends.as_slice()),
            (None, 4, &[1024, 2048, 4096, 5000][..])
        );
        assert!(entry.parts[2].is_none() && entry.parts[3].is_some());
        let [unread] = entry.unread.as_slice() else { panic!("{entry:?}") };
        assert_eq!((unread.offset, unread.length, unread.from), (2048, 2048, 7));
        let told = Content::told(&entry, PART).unwrap();
        assert_eq!(told.entry("f", PART), entry, "it is read back as it was");
        // A file that was read throughout has the digest of all of it, in parts of whatever sizes.
        let ranges = [0..2048, 2048..3072, 3072..4096, 4096..5000];
        let parts = ranges.map(|range: Range<u64>| Part { known: digest_of(&bytes, &range), bytes: range });
        assert_eq!(Content::of(5000, parts.into()).hash, Some(blake3::hash(&bytes)));
    }

    #[tokio::test]
    async fn an_entry_that_does_not_fit_together_is_refused() {
        let (_, _, _, content) = case().await;
        let entry = content.entry("f", PART);
        type Break = fn(&mut ManifestFile);
        let breaks: [(&str, Break); 5] = [
            ("no source of a copied part", |file| file.unread.clear()),
            ("a source of half of it", |file| file.unread[0].length /= 2),
            ("ends out of order", |file| file.ends.swap(0, 1)),
            ("an end behind the file", |file| file.ends[3] += 1),
            ("a digest that is none", |file| file.parts[0] = Some("x".into())),
        ];
        for (what, change) in breaks {
            let mut broken = entry.clone();
            change(&mut broken);
            assert_eq!(Content::told(&broken, PART).unwrap_err().kind(), Kind::VerifyFailed, "{what}");
        }
    }
}
