//! Which part of a weight file differs from what was written, and which tensors lie in it.

use std::ops::Range;

use shardfuse_coordinator::inspect::read_weights;
use shardfuse_coordinator::publish::{Content, Known};
use shardfuse_merge::{Result, bounded};
use shardfuse_store::{Location, Store, Stores};

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

/// The damage of a file; `None` if no part is known to differ. What nobody read is compared with its source if `full`.
pub async fn find(stores: &Stores, at: &Location, name: &str, content: &Content, full: bool) -> Result<Option<Damage>> {
    let store = &*stores.open(at);
    let (mut bytes, mut parts) = (Vec::new(), Vec::new());
    for (number, part) in (1u64..).zip(&content.parts) {
        let skipped = !full && matches!(part.known, Known::Copy { .. });
        if skipped || part.is_in(stores, store, (at, content.size), None).await? {
            continue;
        }
        let (of, Range { start, end }) = (content.parts.len(), &part.bytes);
        let held = held(store, at, &part.bytes).await;
        parts.push(format!("part {number} of {of} (bytes {start} to {end}), with {held}"));
        bytes.push(part.bytes.clone());
    }
    let text = bounded::list(parts);
    Ok((!bytes.is_empty()).then(|| Damage { file: name.to_owned(), bytes, text }))
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
