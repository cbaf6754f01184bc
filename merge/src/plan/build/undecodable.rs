//! Quantised bases whose codes do not give the model's weights by themselves.

use crate::base::conv1d::Conv1d;
use crate::base::parameter::Parameter;
use crate::base::quantisation::Quantisation;
use crate::error::{Error, Kind, Result};
use crate::inventory::BaseInventory;

/// Notes on a quantised parameter why its codes cannot be decoded. It can still be copied.
pub(super) fn mark(parameter: &mut Parameter, said: &Quantisation, conv1d: &Conv1d) {
    if parameter.stored.tensors.len() < 2 || parameter.stored.settings.is_err() {
        return;
    }
    let module = parameter.name.strip_suffix(".weight").unwrap_or(&parameter.name);
    if conv1d.is(module) {
        // transformers transposes the weight of a Conv1D before bitsandbytes quantises it, and GPTQ's codes are those of a Linear
        // [transformers 5.23, `integrations/bitsandbytes.py`].
        parameter.stored.settings = Err("its layer is a Conv1D, whose codes lie the other way round".to_owned());
    } else if said.transformed {
        parameter.stored.settings =
            Err("quantization_config has a transform_config, so the codes are those of rotated weights".to_owned());
    }
}

/// Refuses a base that ends up unquantised while its activations are scaled: a model that is not quantised does not do that.
///
/// # Errors
/// `unsupported`, naming the first tensor of scales.
pub(super) fn expect_plain_activations(base: &BaseInventory) -> Result<()> {
    let mut tensors = base.shards.iter().flat_map(|shard| &shard.tensors);
    // transformers 5.23, `AWQ_SCALES_MAPPINGS` of `integrations/awq.py`.
    let Some(scales) = tensors.find(|tensor| tensor.name.ends_with(".act.scales")) else { return Ok(()) };
    let text = format!(
        "no weight would stay quantised, and {} scales an activation, which only AWQ's loaders do",
        scales.name
    );
    Err(Error::new(Kind::Unsupported, text).hint("merge into the unquantised base"))
}
