//! Tensors of an adapter that cannot be used, refused with their names.

use super::kind::Row;
use crate::base::names::Names;
use crate::bounded;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// Refuses an adapter without tensors, or with empty ones. A kind may have matrices of rank 0.
///
/// # Errors
/// `missing_tensor`, `empty_tensor`.
pub(super) fn refuse_empty(tensors: &[Source], kind: &Row) -> Result<()> {
    let allowed = |t: &Source| kind.rank_0 && t.shape.len() > 1;
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

/// The refusal of tensors that have no place in the base.
pub(super) fn refusal(mut keys: Vec<String>, all: usize, base: &Names<'_>) -> Error {
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
    let example = sorted.first().map_or(String::new(), |n| format!(", such as {n}"));
    Error::new(
        Kind::UnmatchedKeys,
        format!("{} of {all} adapter tensors match no tensor of the base: {}", keys.len(), bounded::list(&keys)),
    )
    .hint(format!("is this the base that the adapter was trained on? the base holds other names{example}"))
}
