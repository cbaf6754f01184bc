//! Parameters that an adapter targets by themselves (`target_parameters`), rather than a whole module.
//!
//! PEFT nests a wrapper for each targeted parameter of a module, the first registered one innermost [`tuners_utils.py`,
//! `_inject_parameters`]. So of `n` parameters the first has `n - 1` times `base_layer` in its keys, and the last none.

use std::collections::BTreeMap;

use super::module::{Parts, locate};
use super::rename::candidates;
use crate::base::experts::OneByOne;
use crate::base::names::Names;
use crate::bounded;
use crate::error::{Error, Kind, Result};
use crate::spec::ExpertOrder;

/// A targeted parameter.
#[derive(Debug)]
pub struct Targeted<'a> {
    /// The module's path in the adapter.
    pub module: &'a str,
    /// The parameter's name in the adapter: path and parameter.
    pub name: String,
    /// The adapter's tensors.
    pub parts: &'a Parts<'a>,
    /// How the base stores it.
    pub held: Held<'a>,
    /// The order of the experts in the columns of `lora_B`.
    pub order: ExpertOrder,
}

/// How a base stores a targeted parameter.
#[derive(Debug)]
pub enum Held<'a> {
    /// As one matrix.
    Matrix {
        /// The tensor.
        tensor: String,
    },
    /// As one tensor of all experts.
    Stacked {
        /// The tensor.
        tensor: String,
        /// Its shape.
        dims: [u64; 3],
        /// In how many parts other checkpoints store the rows of one expert.
        parts: u64,
        /// Whether the class has [experts, inputs, outputs].
        transposed: bool,
    },
    /// As a tensor, or several, for each expert.
    OneByOne {
        /// The tensors.
        tensors: OneByOne<'a>,
        /// The shape of all of them together.
        dims: [u64; 3],
    },
}

/// The targeted parameters of a module with their tensors; none if the module has none.
///
/// # Errors
/// If it cannot be told which tensors are for which parameter.
pub(super) fn targeted<'a, 'b: 'a>(
    list: &[String],
    module: &'a str,
    wrappers: &'a BTreeMap<usize, Parts<'a>>,
    order: ExpertOrder,
    base: &Names<'b>,
) -> Result<Vec<Targeted<'a>>> {
    let mut found = Vec::new();
    for parameter in list.iter().filter_map(|entry| of_module(entry, module)) {
        if let Some(held) = held(module, parameter, base)? {
            found.push((parameter, held));
        }
    }
    if found.is_empty() {
        return Ok(Vec::new());
    }
    sort(module, &mut found, base)?;
    let last = found.len() - 1;
    if let Some((depth, parts)) = wrappers.iter().find(|(depth, _)| **depth > last) {
        let name = parts.all().map(|t| t.name.as_str()).next().unwrap_or_default();
        let targets = bounded::list(found.iter().map(|(parameter, _)| *parameter));
        return Err(Error::new(
            Kind::Conflict,
            format!(
                "{name} has base_layer {depth} times, and target_parameters names {} of {module} ({targets}), which take {last} at the most",
                last + 1
            ),
        ));
    }
    let with_tensors = found.into_iter().enumerate().map(|(at, (parameter, held))| {
        let name = format!("{module}.{parameter}");
        let parts = wrappers.get(&(last - at)).ok_or_else(|| {
            let text = format!("target_parameters names {parameter} of {module}, and the adapter holds nothing for it");
            Error::new(Kind::IncompletePair, text)
        })?;
        Ok(Targeted { module, name, parts, held, order })
    });
    with_tensors.collect()
}

/// The parameter that an entry of `target_parameters` names in a module, if it names one there.
fn of_module<'e>(entry: &'e str, module: &str) -> Option<&'e str> {
    let Some((path, parameter)) = entry.rsplit_once('.') else { return Some(entry) };
    let before = module.strip_suffix(path)?;
    (before.is_empty() || before.ends_with('.')).then_some(parameter)
}

/// How the base stores a parameter; `None` if it does not have it.
fn held<'b>(module: &str, parameter: &str, base: &Names<'b>) -> Result<Option<Held<'b>>> {
    if let Some((tensor, path)) = locate(module, parameter, false, base) {
        return Ok(match base.shape(&tensor) {
            Some([experts, rows, cols]) => {
                let parts = base.class().parts_of(&format!("{module}.{parameter}"));
                let transposed = base.class().holder(&path).is_some_and(|holder| holder.transposed);
                Some(Held::Stacked { tensor, dims: [*experts, *rows, *cols], parts, transposed })
            }
            Some([_, _]) => Some(Held::Matrix { tensor }),
            _ => None,
        });
    }
    for path in candidates(module) {
        let name = format!("{path}.{parameter}");
        let Some(tensors) = base.stacked(&name) else { continue };
        let dims = tensors.shape().map_err(|why| Error::new(Kind::MissingTensor, format!("{name}: {why}")))?;
        return Ok(Some(Held::OneByOne { tensors: tensors.clone(), dims }));
    }
    Ok(None)
}

/// Sorts the parameters of a module as its class registers them.
fn sort(module: &str, found: &mut [(&str, Held<'_>)], base: &Names<'_>) -> Result<()> {
    if found.len() == 1 {
        return Ok(());
    }
    let paths = candidates(module);
    let order = paths.iter().map(|path| base.class().parameters_of(path)).find(|order| !order.is_empty());
    let order = order.unwrap_or_default();
    let place = |parameter: &str| order.iter().position(|known| *known == parameter);
    if let Some((parameter, _)) = found.iter().find(|(parameter, _)| place(parameter).is_none()) {
        return Err(Error::new(
            Kind::Unsupported,
            format!("target_parameters has several parameters of {module}, and the order in which its class registers {parameter} is not known"),
        )
        .hint("config.json of the base must name a class of transformers 5.23 in architectures"));
    }
    found.sort_by_key(|(parameter, _)| place(parameter));
    Ok(())
}
