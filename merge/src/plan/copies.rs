//! The copies of tied parameters whose values a plan depends on.

use std::collections::HashSet;

use crate::adapter::resolve::resolve;
use crate::base::modules::ModelClass;
use crate::base::names::Names;
use crate::base::quantisation::Quantisation;
use crate::base::scheme;
use crate::base::tied::Ties;
use crate::effort::{Cancel, Effort};
use crate::error::Result;
use crate::inventory::{AdapterInventory, BaseInventory, Source};
use crate::spec::ExpertOrder;

/// The pairs of tensors of the base that have to be compared: an adapter changes a name of their set, and the files hold
/// several. What cannot be planned needs no comparison; the plan says why.
///
/// # Errors
/// `interrupted` if it was cancelled.
pub fn to_compare(
    base: &BaseInventory,
    adapters: &[AdapterInventory],
    asked: Option<bool>,
    cancel: Cancel,
) -> Result<Vec<(Source, Source)>> {
    let class = ModelClass::of(&base.config);
    // Whether there are copies is told by the names of the tensors. Parameters, which take more time, are made only then.
    let tensors = base.shards.iter().flat_map(|shard| &shard.tensors);
    let tensors = tensors.map(|tensor| (tensor.name.as_str(), tensor.shape.as_slice()));
    let names = Names::new(tensors, std::iter::empty(), &class);
    let Ok(ties) = Ties::of(base, &names, asked) else { return Ok(Vec::new()) };
    let copies = ties.copies(base);
    if copies.is_empty() {
        return Ok(Vec::new());
    }
    let parameters = scheme::parameters(&base.shards, &Quantisation::of(&base.config), &base.small);
    let stored = parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.dims.as_slice()));
    let names = Names::new(stored, ties.names(), &class);
    let mut effort = Effort::new(cancel);
    // Which tensors change does not depend on the order of experts.
    let order = ExpertOrder::default();
    let resolved = adapters.iter().filter_map(|adapter| resolve(adapter, order, &names, &mut effort).ok());
    let changed: HashSet<String> = resolved.flat_map(|adapter| adapter.edits).map(|edit| edit.tensor).collect();
    let touched = copies.into_iter().filter(|(set, _)| set.all().any(|name| changed.contains(name)));
    let pairs = touched.flat_map(|(_, copies)| copies).map(|(left, right)| (left.clone(), right.clone())).collect();
    effort.check()?;
    Ok(pairs)
}
