//! What the store of the output copies from the base by itself.

use shardfuse_merge::inventory::{BaseInventory, Grain, Object};
use shardfuse_merge::spec::{MergeSpec, StoreCopies};
use shardfuse_store::{Copies, Stores};
use tracing::debug;

use crate::failure::{join, location};

/// How fine files are cut so that the store copies what does not change; `None` where it does not, or where nothing is asked to
/// be written. A store that refuses later costs the work of reading and putting, as without copies.
pub(super) async fn grain(
    stores: &Stores,
    spec: &MergeSpec,
    base: &BaseInventory,
    objects: &[Object],
) -> Option<Grain> {
    if spec.store_copies == StoreCopies::None {
        return None;
    }
    let tensor = base.shards.iter().flat_map(|shard| &shard.tensors).next()?;
    let from = location(&objects[tensor.object.0 as usize].url).ok()?;
    let to = join(&location(&spec.output).ok()?, &base.shards[0].name).ok()?;
    let why = match stores.open(&to).copies(&from, &to).await {
        Ok(Copies::None { why }) => why,
        Ok(_) if to.scheme().has_part_ids_of_places() => return Some(Grain::FILES),
        Ok(_) => return Some(Grain::OBJECTS),
        Err(e) => e.chain(),
    };
    debug!(%from, %to, %why, "the store does not copy between these by itself");
    None
}
