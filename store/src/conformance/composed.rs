//! Parts that the store puts together by itself.

use std::ops::Range;

use super::check::{below, content, fails};
use crate::chunk::{Chunk, Copies};
use crate::error::ErrorKind;
use crate::id::{Pin, UploadId};
use crate::location::Location;
use crate::store::{Completion, PartSlot, Store};

/// As small as the smallest part of any store may be.
const PART: usize = 5 << 20;
/// A length that is no multiple of anything.
const SIZE: usize = 2 * PART + 777_777;

/// An object that is copied from.
struct Source {
    at: Location,
    bytes: Vec<u8>,
    pin: Pin,
}

impl Source {
    async fn put(store: &dyn Store, at: Location) -> Source {
        let bytes = content(21, SIZE);
        store.put(&at, bytes.clone().into()).await.unwrap();
        let pin = store.head(&at).await.unwrap().pin;
        Source { at, bytes, pin }
    }

    fn copy(&self, range: Range<usize>) -> Chunk {
        Chunk::Copy { from: self.at.clone(), range: range.start as u64..range.end as u64, pin: self.pin.clone() }
    }

    /// The bytes that pieces stand for.
    fn bytes_of(&self, chunks: &[Chunk]) -> Vec<u8> {
        let bytes = |chunk: &Chunk| match chunk {
            Chunk::Bytes(bytes) => bytes.to_vec(),
            Chunk::Copy { range, .. } => self.bytes[range.start as usize..range.end as usize].to_vec(),
        };
        chunks.iter().flat_map(bytes).collect()
    }
}

pub(super) async fn run(store: &dyn Store, root: &Location) {
    // A name that cannot stand in a request as it is.
    let from = below(root, "base/model a+b%20ü.safetensors");
    let source = Source::put(store, from).await;
    let to = below(root, "merged/model.safetensors");
    match store.copies(&source.at, &to).await.unwrap() {
        Copies::None { why } => {
            println!("conformance of composed parts is skipped at {root}: {why}");
            not_offered(store, &source, &to).await;
        }
        Copies::Parts { max } => {
            assert!(max >= PART as u64, "copies of {max} bytes make no part");
            mixed(store, &source, &to, &whole_parts(&source)).await;
            refused(store, &source, &to).await;
        }
        Copies::Pieces { block } => {
            let block = usize::try_from(block).unwrap();
            mixed(store, &source, &to, &whole_parts(&source)).await;
            mixed(store, &source, &below(root, "merged/pieces"), &pieces(&source, block)).await;
            refused(store, &source, &to).await;
        }
    }
}

/// A store that copies nothing says so again, or does it all the same.
async fn not_offered(store: &dyn Store, source: &Source, at: &Location) {
    let upload = store.begin(at, PART as u64).await.unwrap();
    if let Err(e) = store.compose_part(at, &upload, slot(0, 0), vec![source.copy(0..PART)]).await {
        assert_eq!(e.kind(), ErrorKind::Unsupported, "{}", e.chain());
    }
    store.abort(at, &upload).await.unwrap();
}

/// Parts of one piece each: put, and copied from odd and from even offsets.
fn whole_parts(source: &Source) -> Vec<Vec<Chunk>> {
    vec![
        vec![Chunk::Bytes(content(22, PART).into())],
        vec![source.copy(12_345..12_345 + PART)],
        vec![source.copy(PART..2 * PART)],
        vec![source.copy(SIZE - 100_001..SIZE)],
    ]
}

/// Parts of many pieces. The part's own offset is a multiple of the block.
fn pieces(source: &Source, block: usize) -> Vec<Vec<Chunk>> {
    let bytes = |seed, length| Chunk::Bytes(content(seed, length).into());
    let mixture = vec![
        bytes(23, 100),
        // Both offsets are 100 behind the begin of a block.
        source.copy(7 * block + 100..7 * block + 100 + 3_000_000),
        bytes(24, 1),
        // They differ.
        source.copy(12_345..1_012_345),
        source.copy(5..5),
        source.copy(0..1),
        bytes(25, PART),
    ];
    let length: usize = mixture.iter().map(|chunk| chunk.length() as usize).sum();
    let fill = bytes(26, length.next_multiple_of(block.max(1)) - length);
    vec![
        [mixture, vec![fill]].concat(),
        // From one block to the next, and to the end of the object.
        vec![source.copy(3 * block..SIZE)],
    ]
}

fn slot(number: u32, offset: u64) -> PartSlot {
    PartSlot { number, offset }
}

/// An upload of these parts completes to their bytes.
async fn mixed(store: &dyn Store, source: &Source, at: &Location, parts: &[Vec<Chunk>]) {
    let whole: Vec<u8> = parts.iter().flat_map(|chunks| source.bytes_of(chunks)).collect();
    let size = whole.len() as u64;
    let upload = store.begin(at, size).await.unwrap();
    let (mut ids, mut offset) = (Vec::new(), 0u64);
    for (number, chunks) in (0u32..).zip(parts) {
        let slot = slot(number, offset);
        let length: u64 = chunks.iter().map(Chunk::length).sum();
        // What was put before under the number is replaced.
        store.put_part(at, &upload, slot, vec![0xEE; length as usize].into()).await.unwrap();
        let composed = store.compose_part(at, &upload, slot, chunks.clone()).await.unwrap();
        let again = store.compose_part(at, &upload, slot, chunks.clone()).await.unwrap();
        assert_eq!(composed, again, "a part that is composed again is that part");
        assert!(store.may_be_part(slot, length, &composed), "part {number}: {composed}");
        ids.push((number, composed));
        offset += length;
    }
    let made = store.complete(at, Completion { upload: &upload, parts: &ids, size }).await.unwrap();
    assert_eq!(made, Some(store.head(at).await.unwrap().pin));
    assert!(store.get(at, size).await.unwrap().0 == whole, "the parts of {at} are not the bytes of their pieces");
    assert!(store.get(&source.at, SIZE as u64).await.unwrap().0 == source.bytes, "the source stays");
    let again = store.complete(at, Completion { upload: &upload, parts: &ids, size }).await;
    again.expect("completing twice is fine");
    late(store, source, at, &upload).await;
}

/// A part to an upload that is gone.
async fn late(store: &dyn Store, source: &Source, at: &Location, upload: &UploadId) {
    let late = store.compose_part(at, upload, slot(0, 0), vec![source.copy(0..PART)]).await;
    fails!(late, NoSuchUpload, "a composed part after the end of its upload");
}

/// What cannot be copied, and by which name.
async fn refused(store: &dyn Store, source: &Source, at: &Location) {
    let upload = store.begin(at, PART as u64).await.unwrap();
    let compose = async |chunk: Chunk| store.compose_part(at, &upload, slot(0, 0), vec![chunk]).await;

    let beyond = compose(source.copy(SIZE - PART + 1..SIZE + 1)).await.expect_err("a range that is not there");
    let kinds = [ErrorKind::ShortRead, ErrorKind::Unsupported];
    assert!(kinds.contains(&beyond.kind()), "a range that is not there: {}", beyond.chain());

    let nothing = Chunk::Copy {
        from: below(&source.at.parent().unwrap(), "nothing"),
        range: 0..PART as u64,
        pin: source.pin.clone(),
    };
    fails!(compose(nothing).await, NotFound, "a copy of nothing");
    let elsewhere =
        Chunk::Copy { from: "gs://elsewhere/x".parse().unwrap(), range: 0..PART as u64, pin: source.pin.clone() };
    let elsewhere = compose(elsewhere).await.expect_err("a copy from another store");
    let kinds = [ErrorKind::NotFound, ErrorKind::Unsupported];
    assert!(kinds.contains(&elsewhere.kind()), "a copy from another store: {}", elsewhere.chain());

    // Another length, so that the version differs even where times are coarse.
    store.put(&source.at, content(27, SIZE + 1).into()).await.unwrap();
    fails!(compose(source.copy(0..PART)).await, Changed, "a copy of a replaced version");
    store.delete(&source.at).await.unwrap();
    fails!(compose(source.copy(0..PART)).await, NotFound, "a copy of a deleted object");

    store.put(&source.at, source.bytes.clone().into()).await.unwrap();
    let again = Source::put(store, source.at.clone()).await;
    compose(again.copy(0..PART)).await.expect("the upload goes on");
    store.abort(at, &upload).await.unwrap();
    late(store, &again, at, &upload).await;
    late(store, &again, at, &UploadId::new("../../../etc/passwd")).await;
}
