//! `shardfuse.index.json`: digests of a base's bytes, so that what the store copies from it has digests though nobody reads it.
//!
//! A BLAKE3 chaining value tells where in its file the bytes lie. So a value of the base is one of the output only where the bytes
//! lie at the same offset in both, which they do unless the header grows.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use shardfuse_merge::checkpoint::files::DIGESTS;
use shardfuse_merge::inventory::{Object, ObjectId};
use shardfuse_merge::plan::Plan;
use shardfuse_merge::spec;
use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::digest::{self, Digest};
use shardfuse_store::{ErrorKind, Location, Pin, Store, Stores, settled};
use tracing::{info, warn};

use crate::failure::{io, join, location};

/// The format's number.
const FORMAT: u32 = 1;
/// The largest index that is read, in bytes.
const MAX_INDEX: u64 = 1 << 30;
/// Blocks that are read and digested at a time.
const AT_A_TIME: usize = 4;

/// An index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseIndex {
    /// The format's number, 1.
    pub format: u32,
    /// The program and version that wrote it.
    pub made_by: String,
    /// Bytes of a block, a power of two.
    pub block: u64,
    /// The files.
    pub files: Vec<IndexedFile>,
}

/// A file of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexedFile {
    /// The name below the base's folder.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
    /// The version, as its store names it.
    pub pin: String,
    /// BLAKE3 of the whole file, as `b3sum` prints it.
    pub blake3: String,
    /// The BLAKE3 chaining values of its blocks, in order, as hex.
    pub blocks: Vec<String>,
}

impl BaseIndex {
    /// Parses an index.
    ///
    /// # Errors
    /// `bad_index` for what is no index of this format.
    pub fn parse(bytes: &[u8]) -> Result<BaseIndex> {
        let bad = |why: String| Error::new(Kind::BadIndex, why).hint("write it again with shardfuse index");
        let index: BaseIndex = serde_json::from_slice(bytes).map_err(|e| bad(format!("is no index: {e}")))?;
        if index.format != FORMAT {
            return Err(bad(format!("has format {}, this version reads {FORMAT}", index.format)));
        }
        if !digest::is_part_size(index.block) {
            return Err(bad(format!("has blocks of {} bytes, expected a power of two from 1024", index.block)));
        }
        match index.files.iter().find(|file| file.blocks.len() as u64 != file.size.div_ceil(index.block)) {
            Some(file) => Err(bad(format!(
                "has {} digests of {}, expected {}",
                file.blocks.len(),
                file.name,
                file.size.div_ceil(index.block)
            ))),
            None => Ok(index),
        }
    }

    /// The chaining value that bytes of a file have in a file of `size` bytes, at the same offset; `None` if the blocks do not
    /// tell.
    fn digest(&self, file: &IndexedFile, bytes: &std::ops::Range<u64>, size: u64) -> Option<Digest> {
        let to_the_end = bytes.end == file.size && size == file.size;
        let whole = bytes.start == 0 && bytes.end == size;
        let aligned = bytes.start.is_multiple_of(self.block) && (bytes.end.is_multiple_of(self.block) || to_the_end);
        if !aligned || whole || bytes.is_empty() {
            return None;
        }
        let numbers = (bytes.start / self.block) as usize..bytes.end.div_ceil(self.block) as usize;
        let hash = |text: &String| blake3::Hash::from_hex(text).ok().map(Digest::from);
        let digests: Vec<Digest> = file.blocks.get(numbers)?.iter().map(hash).collect::<Option<_>>()?;
        let starts = (bytes.start..bytes.end).step_by(self.block as usize);
        let sizes: Vec<u64> = starts.map(|start| self.block.min(bytes.end - start)).collect();
        Some(digest::subtree(&digests, &sizes))
    }
}

/// Digests of the parts that the store copies, by file and part, as far as the index of the base has them.
///
/// # Errors
/// For an index that was asked for and cannot be read. One that lies in the base's folder and is none is named in the log.
pub async fn known(stores: &Stores, plan: &Plan) -> Result<BTreeMap<(u32, u32), Digest>> {
    let mut known = BTreeMap::new();
    if !plan.output.files.iter().any(|file| file.cut.copied) {
        return Ok(known);
    }
    let Some(index) = read(stores, plan).await? else { return Ok(known) };
    let by_object = by_object(plan, &index);
    for (number, file) in (0u32..).zip(&plan.output.files) {
        for ((part, bytes), copy) in (0u32..).zip(file.cut.parts.iter()).zip(file.copies()) {
            let Some((object, range)) = copy.filter(|(_, range)| range.start == bytes.start) else { continue };
            let digest = by_object.get(&object).and_then(|file_of| index.digest(file_of, &range, file.size));
            known.extend(digest.map(|digest| ((number, part), digest)));
        }
    }
    info!(parts = known.len(), "digests of parts that the store copies come from the index of the base");
    Ok(known)
}

/// The files of an index that are what the plan reads.
fn by_object<'a>(plan: &Plan, index: &'a BaseIndex) -> BTreeMap<ObjectId, &'a IndexedFile> {
    let mut by_object = BTreeMap::new();
    let below = format!("{}/", plan.spec.base.trim_end_matches('/'));
    for (id, object) in (0u32..).zip(&plan.objects) {
        let Some(name) = object.url.strip_prefix(&below) else { continue };
        let Some(file) = index.files.iter().find(|file| file.name == name) else { continue };
        match is_of(file, object) {
            true => _ = by_object.insert(ObjectId(id), file),
            false => {
                warn!(file = %object.url, "it is another version than the one in the index of the base: shardfuse index reads it again")
            }
        }
    }
    by_object
}

fn is_of(file: &IndexedFile, object: &Object) -> bool {
    file.size == object.size && file.pin == object.pin
}

/// The index that a plan names.
async fn read(stores: &Stores, plan: &Plan) -> Result<Option<BaseIndex>> {
    let (at, asked) = match &plan.spec.base_index {
        spec::BaseIndex::None => return Ok(None),
        spec::BaseIndex::Auto => (join(&location(&plan.spec.base)?, DIGESTS)?, false),
        spec::BaseIndex::File(url) => (location(url)?, true),
    };
    match settled::read(&*stores.open(&at), &at, MAX_INDEX, BaseIndex::parse).await {
        Ok(Ok(index)) => Ok(Some(index)),
        Ok(Err(e)) if asked => Err(e.at(&at)),
        Err(e) if asked => Err(io(e)),
        Ok(Err(error)) => {
            warn!(%at, %error, "the index of the base is left out");
            Ok(None)
        }
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => {
            warn!(%at, error = %e.chain(), "the index of the base is left out");
            Ok(None)
        }
    }
}

/// Reads files of a base and digests their blocks. `each` hears of the bytes that were read.
///
/// # Errors
/// If a file cannot be read, or changes meanwhile.
pub async fn make(
    stores: &Stores,
    base: &Location,
    names: &[String],
    block: u64,
    made_by: String,
    each: impl Fn(u64) + Sync,
) -> Result<BaseIndex> {
    let mut files = Vec::with_capacity(names.len());
    for name in names {
        let at = join(base, name)?;
        let store = &*stores.open(&at);
        let meta = store.head(&at).await.map_err(io)?;
        let (size, pin, each) = (meta.size, &meta.pin, &each);
        let at = &at;
        let digests: Vec<Digest> = stream::iter((0..size).step_by(block as usize))
            .map(|offset| async move {
                let digest = block_of(store, at, offset..(offset + block).min(size), size, pin).await?;
                each(block.min(size - offset));
                Ok::<_, Error>(digest)
            })
            .buffered(AT_A_TIME)
            .boxed()
            .try_collect()
            .await?;
        let sizes: Vec<u64> = (0..size).step_by(block as usize).map(|offset| block.min(size - offset)).collect();
        let hex = |digest: Digest| blake3::Hash::from_bytes(digest).to_hex().to_string();
        files.push(IndexedFile {
            name: name.clone(),
            size,
            pin: pin.as_str().to_owned(),
            blake3: hex(digest::combine(&digests, &sizes)),
            blocks: digests.into_iter().map(hex).collect(),
        });
    }
    Ok(BaseIndex { format: FORMAT, made_by, block, files })
}

async fn block_of(
    store: &dyn Store,
    at: &Location,
    bytes: std::ops::Range<u64>,
    size: u64,
    pin: &Pin,
) -> Result<Digest> {
    let read = store.read(at, bytes.start, vec![0; (bytes.end - bytes.start) as usize], Some(pin)).await.map_err(io)?;
    let digest = tokio::task::spawn_blocking(move || digest::chaining_value(&read, bytes.start, size));
    digest.await.map_err(|e| Error::new(Kind::Internal, format!("a digest ended: {e}")))
}

/// Writes an index.
///
/// # Errors
/// If its place cannot be written.
pub async fn write(stores: &Stores, at: &Location, index: &BaseIndex) -> Result<()> {
    let mut text = serde_json::to_vec(index).map_err(|e| Error::new(Kind::Internal, e.to_string()))?;
    text.push(b'\n');
    stores.open(at).put(at, Bytes::from(text)).await.map_err(io)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use shardfuse_store::memory::Memory;

    use super::*;

    const BLOCK: u64 = 1024;
    const SIZE: u64 = 5 * BLOCK + 100;

    async fn made() -> (Stores, Vec<u8>, BaseIndex) {
        let stores = Stores::all(Arc::new(Memory::new()));
        let bytes: Vec<u8> = (0..SIZE).map(|i| ((i * 7) >> 3) as u8).collect();
        let base: Location = "s3://b/base".parse().unwrap();
        let at = base.join("w").unwrap();
        stores.open(&at).put(&at, bytes.clone().into()).await.unwrap();
        let index = make(&stores, &base, &["w".to_owned()], BLOCK, "test".into(), |_| ()).await.unwrap();
        (stores, bytes, index)
    }

    #[tokio::test]
    async fn blocks_tell_the_digest_of_what_lies_at_the_same_offset() {
        let (_, bytes, index) = made().await;
        let file = &index.files[0];
        assert_eq!((file.blocks.len(), file.blake3.as_str()), (6, blake3::hash(&bytes).to_hex().as_str()));
        for range in [1024..2048, 2048..4096, 4096..SIZE] {
            let expected = digest::chaining_value(&bytes[range.start as usize..range.end as usize], range.start, SIZE);
            assert_eq!(index.digest(file, &range, SIZE), Some(expected), "{range:?}");
        }
        for (range, size, why) in [
            (1000..2048, SIZE, "it begins within a block"),
            (1024..2000, SIZE, "it ends within a block"),
            (4096..SIZE, SIZE + 1, "the file goes on behind it"),
            (0..SIZE, SIZE, "it is the whole file"),
        ] {
            assert_eq!(index.digest(file, &range, size), None, "{why}");
        }
    }

    #[tokio::test]
    async fn an_index_is_read_back_and_another_version_of_a_file_is_none_of_it() {
        let (stores, _, index) = made().await;
        let at: Location = "s3://b/base/shardfuse.index.json".parse().unwrap();
        write(&stores, &at, &index).await.unwrap();
        let (text, _) = stores.open(&at).get(&at, 1 << 20).await.unwrap();
        assert_eq!(BaseIndex::parse(&text).unwrap(), index);
        let file = &index.files[0];
        let object =
            |size, pin: &str| Object { url: "s3://b/base/w".into(), size, pin: pin.into(), seen: String::new() };
        assert!(is_of(file, &object(SIZE, &file.pin)));
        assert!(!is_of(file, &object(SIZE, "other")) && !is_of(file, &object(SIZE + 1, &file.pin)));
    }

    #[test]
    fn what_is_no_index_is_refused() {
        let index = |block: u64, blocks: usize, format: u32| {
            let file =
                serde_json::json!({"name": "w", "size": 2000, "pin": "p", "blake3": "", "blocks": vec![""; blocks]});
            serde_json::json!({"format": format, "made_by": "", "block": block, "files": [file]}).to_string()
        };
        BaseIndex::parse(index(1024, 2, 1).as_bytes()).unwrap();
        for (text, what) in [
            ("{}".to_owned(), "another file"),
            (index(1024, 2, 2), "another format"),
            (index(1000, 2, 1), "blocks that are no subtrees"),
            (index(0, 2, 1), "blocks of nothing"),
            (index(1024, 1, 1), "too few digests"),
        ] {
            assert_eq!(BaseIndex::parse(text.as_bytes()).unwrap_err().kind(), Kind::BadIndex, "{what}");
        }
    }
}
