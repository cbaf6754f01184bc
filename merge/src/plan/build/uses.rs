//! The adapters of a spec as they are laid on.

use std::collections::BTreeSet;

use crate::inventory::{Inventory, ObjectId};
use crate::spec::{MergeSpec, Rounding};

/// A run of the same adapter, merged into one use.
#[derive(Debug, Clone)]
pub(super) struct Use {
    /// The place of its first entry in the spec.
    pub(super) index: usize,
    /// The sum of the weights.
    pub(super) weight: f64,
}

/// Consecutive uses of one adapter become one use with the sum of their weights, unless the result is rounded between them.
pub(super) fn uses(spec: &MergeSpec, inventory: &Inventory) -> Vec<Use> {
    let identity = |i: usize| {
        let a = &inventory.adapters[i];
        let objects: BTreeSet<_> = a.all_tensors().map(|t| t.object).collect();
        let place = |id: ObjectId| (&inventory.objects[id.0 as usize].url, &inventory.objects[id.0 as usize].pin);
        objects.into_iter().map(place).collect::<Vec<_>>()
    };
    let joins = |one: usize, other: usize| {
        let same_order = spec.expert_order_of(one) == spec.expert_order_of(other);
        spec.rounding == Rounding::Once && same_order && identity(one) == identity(other)
    };
    let mut uses: Vec<Use> = Vec::new();
    for (index, lora) in spec.lora.iter().enumerate() {
        match uses.last_mut() {
            Some(last) if joins(last.index, index) => last.weight += lora.weight,
            _ => uses.push(Use { index, weight: lora.weight }),
        }
    }
    uses
}
