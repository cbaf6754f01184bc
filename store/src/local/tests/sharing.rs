//! Shared blocks, on file systems that `tests/sharing/run.sh` mounts.

use super::*;

/// `tests/sharing/run.sh` says what each is for.
fn folders(variable: &str) -> Vec<Location> {
    let named = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set; run tests/sharing/run.sh"));
    named.split(':').map(|folder| folder.parse().unwrap()).collect()
}

fn content(length: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15u64;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..length).map(|_| next()).collect()
}

const MIB: usize = 1 << 20;

/// Each folder gets a file `from/base`, and a file `merged` of which 32 MiB are those of the other. They stay, so that the script can look
/// at their blocks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs file systems that share blocks: tests/sharing/run.sh"]
async fn bytes_of_another_file_take_no_room() {
    for root in folders("SHARDFUSE_SHARING") {
        let store = Local::new();
        conformance::run(Arc::new(Local::new()), root.join("suite").unwrap()).await;
        let (from, at) = (root.join("from/base").unwrap(), root.join("merged").unwrap());
        let base = content(40 * MIB + 777);
        store.put(&from, base.clone().into()).await.unwrap();
        let pin = store.head(&from).await.unwrap().pin;
        assert_eq!(store.copies(&from, &at).await.unwrap(), Copies::Pieces { block: 4096 }, "{root}");
        let copy = |range: std::ops::Range<usize>| Chunk::Copy {
            from: from.clone(),
            range: range.start as u64..range.end as u64,
            pin: pin.clone(),
        };
        let header = content(2 * 4096 + 100);
        // A part that is one copy, and one of pieces whose blocks begin within them; the end of the file is no whole block.
        let parts = [
            vec![copy(4 * MIB..20 * MIB)],
            vec![
                Chunk::Bytes(header.clone().into()),
                copy(20 * MIB + 100..36 * MIB + 100),
                copy(base.len() - 50..base.len()),
            ],
        ];
        let whole =
            [&base[4 * MIB..20 * MIB], &header, &base[20 * MIB + 100..36 * MIB + 100], &base[base.len() - 50..]]
                .concat();
        let size = whole.len() as u64;
        let upload = store.begin(&at, size).await.unwrap();
        let (mut ids, mut offset) = (Vec::new(), 0);
        for (number, chunks) in (0u32..).zip(parts) {
            let length: u64 = chunks.iter().map(Chunk::length).sum();
            let id = store.compose_part(&at, &upload, PartSlot { number, offset }, chunks).await.unwrap();
            ids.push((number, id));
            offset += length;
        }
        store.complete(&at, Completion { upload: &upload, parts: &ids, size }).await.unwrap();
        assert!(store.get(&at, size).await.unwrap().0 == whole, "{root}");
    }
}

/// Between any two of these nothing is shared, and a copy of whole blocks is refused.
#[tokio::test]
#[ignore = "needs file systems that share no blocks: tests/sharing/run.sh"]
async fn no_sharing_is_promised_where_there_is_none() {
    let (folders, store) = (folders("SHARDFUSE_NOT_SHARING"), Local::new());
    for source in &folders {
        let from = source.join("base").unwrap();
        store.put(&from, content(MIB).into()).await.unwrap();
        let pin = store.head(&from).await.unwrap().pin;
        for target in &folders {
            let at = target.join("merged").unwrap();
            let copies = store.copies(&from, &at).await.unwrap();
            assert!(matches!(copies, Copies::None { .. }), "{from} to {at}: {copies:?}");
            let upload = store.begin(&at, MIB as u64).await.unwrap();
            let chunk = Chunk::Copy { from: from.clone(), range: 0..MIB as u64, pin: pin.clone() };
            let refused = store.compose_part(&at, &upload, PartSlot { number: 0, offset: 0 }, vec![chunk]).await;
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Unsupported, "{from} to {at}");
            store.abort(&at, &upload).await.unwrap();
        }
    }
}
