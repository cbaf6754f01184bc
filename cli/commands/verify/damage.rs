//! Which part of a weight file differs from what was written, and which tensors lie in it.

use std::ops::Range;

use shardfuse_coordinator::failure::io;
use shardfuse_coordinator::inspect::read_weights;
use shardfuse_merge::output::manifest::ManifestFile;
use shardfuse_merge::{Result, bounded};
use shardfuse_store::{Location, Store, digest};

/// Parts of a file that differ from what was written.
#[derive(Debug, Clone)]
pub struct Damage {
    /// The file, below the output.
    pub file: String,
    /// Its bytes that the parts hold.
    pub bytes: Vec<Range<u64>>,
    /// The parts and what they hold, in words.
    pub text: String,
}

/// The damage of a file whose digest differs; `None` if the manifest has no digests of its parts.
pub async fn find(store: &dyn Store, at: &Location, file: &ManifestFile, part_size: u64) -> Result<Option<Damage>> {
    if file.parts.is_empty() || !digest::is_part_size(part_size) {
        return Ok(None);
    }
    let (mut bytes, mut parts) = (Vec::new(), Vec::new());
    for (number, written) in (0u64..).zip(&file.parts) {
        let offset = number * part_size;
        let range = offset..(offset + part_size).min(file.size);
        let length = range.end.saturating_sub(range.start);
        let read = store.read(at, offset, vec![0; length as usize], None).await.map_err(io)?;
        let size = file.size;
        let hashing = tokio::task::spawn_blocking(move || digest::chaining_value(&read, offset, size));
        let found = hashing.await.map(|value| blake3::Hash::from_bytes(value).to_hex().to_string());
        if found.is_ok_and(|found| found != *written) {
            let (of, Range { start, end }) = (file.parts.len(), &range);
            parts.push(format!(
                "part {} of {of} (bytes {start} to {end}), with {}",
                number + 1,
                held(store, at, &range).await
            ));
            bytes.push(range);
        }
    }
    let text = bounded::list(parts);
    Ok((!bytes.is_empty()).then(|| Damage { file: file.name.clone(), bytes, text }))
}

/// The tensors in some bytes. The header itself may be damaged.
async fn held(store: &dyn Store, at: &Location, bytes: &Range<u64>) -> String {
    let Ok(weights) = read_weights(store, at).await else { return "the header".to_owned() };
    let tensors = weights.tensors.iter().filter(|t| t.offset < bytes.end && bytes.start < t.offset + t.length);
    let names: Vec<&str> = tensors.map(|t| t.name.as_str()).collect();
    match names.as_slice() {
        [] => "the header".to_owned(),
        [one] => (*one).to_owned(),
        [first, .., last] => format!("{} tensors from {first} to {last}", names.len()),
    }
}
