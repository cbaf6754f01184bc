//! Reading what a part is made of, all of it at the same time, in the part's turn.

use std::time::Instant;

use bytes::Bytes;
use futures::future::try_join_all;
use shardfuse_merge::plan::task::Fill;
use shardfuse_merge::recipe::Placed;

use super::fuse::{Fuser, Loaded};
use super::part_plan::{Copy, Make, Read};
use super::read::Reader;
use super::shared::Stage;
use super::stages::{At, Way};
use crate::Failure;

/// What was read for a part.
#[derive(Debug)]
pub struct Fetched {
    /// The bytes of the file's start.
    pub header: Vec<u8>,
    /// The plan's reads.
    pub reads: Vec<Bytes>,
    /// For each piece what it needs beside; `None` where its bytes are copied.
    pub loaded: Vec<Option<Beside>>,
}

/// What computing a piece needs beside the bytes that it starts from.
#[derive(Debug)]
pub struct Beside {
    /// What its steps need.
    pub steps: Loaded,
    /// The value of the statistic that decoding its start needs.
    pub statistic: Option<Bytes>,
}

/// Reads a part that is one range of one input.
pub async fn copy(reader: Reader<'_>, copy: &Copy<'_>, way: &mut Way<'_>) -> Result<Bytes, Failure> {
    let turn = reader.shared.reads.turn().await;
    way.enter(At::Fetching);
    let began = Instant::now();
    let bytes = range(reader, &copy.read, || copy.tensors.iter().copied()).await?;
    turn.moved(bytes.len() as u64);
    reader.shared.took(Stage::Fetch, began);
    Ok(bytes)
}

/// Reads what a part is made of. `fusers` has one for each piece that is computed.
pub async fn make(
    reader: Reader<'_>,
    fill: &Fill,
    make: &Make<'_>,
    fusers: &[Option<Fuser>],
    way: &mut Way<'_>,
) -> Result<Fetched, Failure> {
    let turn = reader.shared.reads.turn().await;
    way.enter(At::Fetching);
    let began = Instant::now();
    let header = async {
        match make.header.is_empty() {
            true => Ok(Vec::new()),
            false => reader.inputs.read_own(&fill.header.0, make.header.clone()).await,
        }
    };
    let one = |(i, read)| range(reader, read, move || make.tensors_of(i));
    let reads = try_join_all(make.reads.iter().enumerate().map(one));
    let loaded = try_join_all(make.pieces.iter().zip(fusers).map(async |(piece, fuser)| match (&piece.rows, fuser) {
        (Some(rows), Some(fuser)) => {
            let loaded = futures::try_join!(fuser.load(reader, rows), reader.of_start(&rows.fuse.start));
            loaded
                .map(|(steps, statistic)| Some(Beside { steps, statistic }))
                .map_err(|f| f.at(format_args!("tensor {}", piece.placed.name)))
        }
        _ => Ok(None),
    }));
    let (header, reads, loaded) = futures::try_join!(header, reads, loaded)?;
    turn.moved(reads.iter().map(|bytes| bytes.len() as u64).sum());
    reader.shared.took(Stage::Fetch, began);
    Ok(Fetched { header, reads, loaded })
}

/// Reads a range; a failure names the tensors that lie in it.
async fn range<'a, T: Iterator<Item = &'a Placed>>(
    reader: Reader<'_>,
    read: &Read,
    tensors: impl Fn() -> T,
) -> Result<Bytes, Failure> {
    let bytes = reader.inputs.lend(reader.shared, read.object, read.range.clone()).await;
    bytes.map_err(|f| f.at(names(tensors())))
}

/// Names tensors in a failure, the first of them at least.
fn names<'a>(mut tensors: impl Iterator<Item = &'a Placed>) -> String {
    match (tensors.next(), tensors.count()) {
        (None, _) => "no tensor".to_owned(),
        (Some(one), 0) => format!("tensor {}", one.name),
        (Some(first), rest) => format!("tensor {} and {rest} after it", first.name),
    }
}
