//! How fast a local upload is: parts of 64 MiB from two writers, then completing.
//!
//! `cargo run --release -p shardfuse-store --example upload_speed -- FOLDER [GIB]` writes 8 GiB, or as much as is asked
//! for, to a file in the folder, and removes it.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use shardfuse_store::{Completion, Local, Location, PartSlot, Store};

const PART: u64 = 64 << 20;
const WRITERS: u32 = 2;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let folder = args.next().ok_or("usage: upload_speed FOLDER [GIB]")?;
    let gib: u64 = args.next().map_or(Ok(8), |text| text.parse())?;
    let at = Location::parse(&folder, Path::new(&std::env::current_dir()?))?.join("upload_speed.bin")?;
    let (store, size) = (Arc::new(Local::new()), gib << 30);
    let parts = u32::try_from(size / PART)?;

    let start = Instant::now();
    let upload = store.begin(&at, size).await?;
    let begun = start.elapsed();
    let writers: Vec<_> = (0..WRITERS)
        .map(|writer| {
            let (store, at, upload) = (store.clone(), at.clone(), upload.clone());
            tokio::spawn(async move {
                let bytes = Bytes::from((0..PART).map(|i| ((i * 31) >> 3) as u8).collect::<Vec<_>>());
                let mut ids = Vec::new();
                for number in (writer..parts).step_by(WRITERS as usize) {
                    let part = PartSlot { number, offset: u64::from(number) * PART };
                    ids.push((number, store.put_part(&at, &upload, part, bytes.clone()).await?));
                }
                Ok::<_, shardfuse_store::Error>(ids)
            })
        })
        .collect();
    let mut ids = Vec::new();
    for writer in writers {
        ids.extend(writer.await??);
    }
    ids.sort();
    let written = start.elapsed();
    store.complete(&at, Completion { upload: &upload, parts: &ids, size }).await?;
    let done = start.elapsed();
    store.delete(&at).await?;
    println!(
        "{gib} GiB: begin {:.2} s, parts {:.2} s, complete {:.2} s, together {:.2} GB/s",
        begun.as_secs_f64(),
        (written - begun).as_secs_f64(),
        (done - written).as_secs_f64(),
        size as f64 / done.as_secs_f64() / 1e9,
    );
    Ok(())
}
