//! Which tensor goes to which file.

use super::contents::Tensor;
use super::encode;
use crate::error::Result;
use crate::inventory::{BaseInventory, Shard};

/// The tensors of one file.
pub(super) struct Group<'a> {
    /// The base's file that it follows.
    pub(super) own: Option<&'a Shard>,
    /// Its tensors.
    pub(super) tensors: Vec<Tensor>,
}

/// The files of the base. Tensors that the base does not hold go to the last one.
pub(super) fn own(base: &BaseInventory, tensors: Vec<Tensor>) -> Vec<Group<'_>> {
    let group = |shard| Group { own: Some(shard), tensors: Vec::new() };
    let mut groups: Vec<Group<'_>> = base.shards.iter().map(group).collect();
    let last = groups.len() - 1;
    for tensor in tensors {
        groups[tensor.shard.unwrap_or(last)].tensors.push(tensor);
    }
    groups
}

/// Cuts as transformers does: in order, a new file where the next tensor would exceed the limit.
///
/// # Errors
/// `unsupported` for a tensor that does not fill whole bytes.
pub(super) fn recut<'a>(tensors: Vec<Tensor>, limit: u64) -> Result<Vec<Group<'a>>> {
    let mut groups = Vec::new();
    let mut group = Group { own: None, tensors: Vec::new() };
    let mut size = 0u64;
    for tensor in tensors {
        let bytes = encode::length(&tensor.name, tensor.dtype, &tensor.dims)?;
        if size > 0 && size + bytes > limit {
            groups.push(std::mem::replace(&mut group, Group { own: None, tensors: Vec::new() }));
            size = 0;
        }
        size += bytes;
        group.tensors.push(tensor);
    }
    groups.push(group);
    Ok(groups)
}
