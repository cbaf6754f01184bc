//! Tensors of an adapter that cannot be used, refused with their names.

use super::kind::Row;
use super::strays;
use crate::base::names::Names;
use crate::error::{Error, Kind, Result};
use crate::inventory::{AdapterInventory, Source};

/// Refuses an adapter without tensors, or with empty ones. A kind may have matrices of rank 0.
///
/// # Errors
/// `missing_tensor`, `empty_tensor`.
pub(super) fn refuse_empty(tensors: &[Source], kind: &Row) -> Result<()> {
    let allowed = |t: &Source| kind.may_be_empty && t.shape.len() > 1;
    let empty: Vec<&Source> = tensors.iter().filter(|t| t.elements() == 0 && !allowed(t)).collect();
    match empty.first() {
        None if tensors.is_empty() => Err(Error::new(Kind::MissingTensor, "the adapter holds no tensors")),
        None => Ok(()),
        Some(first) => Err(Error::new(
            Kind::EmptyTensor,
            format!("{} of {} tensors are empty, the first is {} of shape {:?}", empty.len(), tensors.len(), first.name, first.shape),
        )
        .hint("DeepSpeed ZeRO-3 saves empty tensors unless they are gathered: set stage3_gather_16bit_weights_on_model_save, or save through zero_to_fp32.py")),
    }
}

/// What the base stores in the place of the weight that a key of two parts changes; `None` if it has the weight, or nothing there.
fn coded(key: &str, base: &Names<'_>) -> Option<String> {
    let path = key.strip_prefix("base_model.model.").unwrap_or(key);
    let module = path.rsplitn(3, '.').nth(2).filter(|module| !base.has(&format!("{module}.weight")))?;
    let below = format!("{module}.");
    let all = base.all();
    let held = all[all.partition_point(|name| *name < below.as_str())..].iter();
    let mut held = held.map_while(|name| name.strip_prefix(below.as_str()));
    held.find(|last| !last.contains('.') && *last != "bias").map(|last| format!("{below}{last}"))
}

/// The refusal of tensors that have no place in the base.
pub(super) fn refusal(mut keys: Vec<String>, adapter: &AdapterInventory, base: &Names<'_>) -> Error {
    let all = adapter.all_tensors().count();
    keys.sort();
    // A key below `experts` of a base that stacks them is not a stray: it is a kind that is not merged yet.
    let sorted = base.all();
    let stacked = keys.iter().find_map(|k| {
        let path = k.strip_prefix("base_model.model.").unwrap_or(k);
        let experts = &path[..path.find(".experts.").map(|at| at + ".experts.".len())?];
        let first = sorted.get(sorted.partition_point(|n| *n < experts))?;
        first.starts_with(experts).then(|| (k.clone(), (*first).to_owned()))
    });
    if let Some((key, base)) = stacked {
        return Error::new(
            Kind::Unsupported,
            format!(
                "adapter tensor {key} is of experts, and the base stores its experts as {base}; which of the two belong together is known by the class only"
            ),
        )
        .hint("config.json of the base must name a class of transformers 5.23 in architectures; an adapter for stacked experts must name them in target_parameters");
    }
    if let Some((key, stored)) = keys.iter().find_map(|key| Some((key, coded(key, base)?))) {
        let text = format!(
            "adapter tensor {key} changes a weight that the base stores as {stored}, in a quantised form that is not known"
        );
        return Error::new(Kind::Unsupported, text).hint("merge into the unquantised base and quantise the result");
    }
    Error::new(
        Kind::UnmatchedKeys,
        format!("{} of {all} adapter tensors match no tensor of the base: {}", keys.len(), strays::listed(&keys)),
    )
    .hint(strays::advice(&keys, all, adapter.config.base_model.as_deref(), base))
}
