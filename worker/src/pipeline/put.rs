//! Putting a finished part, and the receipt of it.

use std::sync::atomic::Ordering;
use std::time::Instant;

use bytes::Bytes;
use shardfuse_merge::plan::task::Fill;
use shardfuse_proto::v1;
use shardfuse_store::{Location, PartSlot, UploadId, digest};
use tracing::debug;

use super::read::Reader;
use super::shared::Stage;
use super::stages::{At, Way};
use crate::Failure;

/// Puts a part unless it is only checked. Returns the receipt.
pub async fn put(
    reader: Reader<'_>,
    fill: &Fill,
    slot: PartSlot,
    bytes: Bytes,
    way: &mut Way<'_>,
) -> Result<v1::PartReceipt, Failure> {
    let (hashed, length, size) = (bytes.clone(), bytes.len() as u64, fill.size);
    let hash = move |_: &_| Ok(digest::chaining_value(&hashed, slot.offset, size));
    let chaining = reader.shared.compute(hash).await?.to_vec();
    let store_id = if fill.check { String::new() } else { store(reader, fill, slot, bytes, way).await? };
    Ok(v1::PartReceipt { store_id, length, chaining })
}

/// Puts a part, and returns the store's id of it.
async fn store(
    reader: Reader<'_>,
    fill: &Fill,
    slot: PartSlot,
    bytes: Bytes,
    way: &mut Way<'_>,
) -> Result<String, Failure> {
    let (shared, part, length) = (reader.shared, slot.number, bytes.len() as u64);
    let at: Location = fill.url.parse()?;
    let upload = UploadId::new(&fill.upload);
    let turn = shared.writes.turn().await;
    way.enter(At::Putting);
    debug!(file = %fill.url, part, "put");
    let began = Instant::now();
    let put = shared.stores.open(&at).put_part(&at, &upload, slot, bytes).await;
    let store_id = put.map_err(|e| Failure::from(e).at(format_args!("part {part}")))?;
    turn.moved(length);
    shared.took(Stage::Put, began);
    shared.bytes_put.fetch_add(length, Ordering::Relaxed);
    reader.inputs.meter().put(length);
    metrics::counter!("shardfuse_put_bytes_total").increment(length);
    Ok(store_id.as_str().to_owned())
}
