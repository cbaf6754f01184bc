//! What the kinds have in common whose random matrices are shared by all modules: VeRA and PVeRA.

use crate::adapter::module::{Module, expect_values};
use crate::base::names::Names;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// The two matrices that all modules share, by their names.
///
/// # Errors
/// `missing_tensor` if the file does not hold them; `unsupported` if they hold no values.
pub fn of<'a>(module: &Module<'a>, [a, b]: [&'static str; 2]) -> Result<[&'a Source; 2]> {
    let (Some(one), Some(other)) = (module.shared.get(a), module.shared.get(b)) else {
        let text = format!("the file holds no {a} and {b}, the random matrices that PEFT draws from torch's generator");
        return Err(Error::new(Kind::MissingTensor, text)
            .hint("save the adapter again with save_projection=True, or merge it with PEFT's merge_and_unload"));
    };
    [one, other].into_iter().try_for_each(expect_values)?;
    Ok([one, other])
}

/// Tensors that do not fit the weight of a module.
pub fn misfit(module: &Module<'_>, base: &Names<'_>, tensors: &[&Source]) -> Error {
    let parts: Vec<String> = tensors.iter().map(|t| format!("{} of shape {:?}", t.name, t.shape)).collect();
    let parts = parts.join(", ");
    match module.matrix(base) {
        Ok((rows, cols)) => {
            let what = if module.rows.is_some() { "rows of " } else { "" };
            let text = format!("{parts} do not fit {what}{} of shape {:?}", module.tensor, [rows, cols]);
            Error::new(Kind::ShapeMismatch, text).hint("the adapter was trained on a model of another size")
        }
        Err(error) => error,
    }
}
