//! What the kinds have in common that add to the bias of a layer: LoRA with `lora_bias`, and BEFT.

use crate::adapter::edit::{Change, Edit};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// The edit that adds a tensor `[out]`, times the scale, to the bias of a module.
///
/// # Errors
/// `missing_tensor` if the base has no such bias.
pub fn edit(module: &Module<'_>, bias: Source, scale: f64, base: &Names<'_>) -> Result<Edit> {
    let Some((tensor, rows)) = module.bias(base)? else {
        let text = format!("{} adds to a bias, and the base has no {}.bias", bias.name, module.base);
        return Err(Error::new(Kind::MissingTensor, text));
    };
    Ok(Edit { tensor, rows, module: module.base.clone(), change: Change::Bias { source: bias, scale } })
}
