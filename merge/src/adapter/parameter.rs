//! Parameters that an adapter targets by themselves (`target_parameters`), rather than a whole module.
//!
//! PEFT nests a wrapper for each targeted parameter of a module, the first registered one innermost [`tuners_utils.py`,
//! `_inject_parameters`]. So of `n` parameters the first has `n - 1` times `base_layer` in its keys, and the last none.

use std::collections::BTreeMap;

use super::edit::RowRange;
use super::lines::Lines;
use super::module::{Parts, locate};
use super::piece::Piece;
use super::rename::candidates;
use crate::base::experts::OneByOne;
use crate::base::modules::Run;
use crate::base::names::{Names, Part};
use crate::bounded;
use crate::error::{Error, Kind, Result};
use crate::spec::ExpertOrder;

/// As many portions a tensor may have. Each is a record in the plan.
const MAX_PIECES: u64 = 1 << 16;

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
    /// As one tensor of all experts, with other parameters or with its rows in another order.
    Split {
        /// The tensor, and how it holds the parameter.
        part: Part<'a>,
        /// The shape of the parameter.
        dims: [u64; 3],
    },
    /// As a tensor, or several, for each expert; or as one of all experts for each part.
    OneByOne {
        /// The tensors.
        tensors: OneByOne<'a>,
        /// The shape of all of them together.
        dims: [u64; 3],
    },
}

impl Held<'_> {
    /// The shape, if it is one of experts.
    pub fn dims(&self) -> Option<[u64; 3]> {
        match self {
            Held::Matrix { .. } => None,
            Held::Stacked { dims, .. } | Held::Split { dims, .. } | Held::OneByOne { dims, .. } => Some(*dims),
        }
    }

    /// Where the rows of an expert are stored.
    pub fn pieces(&self, expert: u64) -> Vec<Piece> {
        let part = |tensor: &str, at: Option<u64>, number: u64, count: u64, cols: u64| Piece {
            tensor: tensor.to_owned(),
            rows: at.map(|first| RowRange { first, count, cols }),
            of: Lines { first: number * count, step: 1, count },
        };
        match self {
            Held::Matrix { .. } => Vec::new(),
            Held::Stacked { tensor, dims: [_, rows, cols], parts, .. } => {
                let parts = if rows.is_multiple_of(*parts) { *parts } else { 1 };
                let count = rows / parts;
                (0..parts).map(|n| part(tensor, Some(expert * rows + n * count), n, count, *cols)).collect()
            }
            Held::OneByOne { tensors, dims: [_, rows, cols] } => {
                let count = rows / tensors.parts();
                let stored = |n| {
                    let at = tensors.across.then_some(expert * count);
                    part(tensors.tensor(n, expert).unwrap_or_default(), at, n, count, *cols)
                };
                (0..tensors.parts()).map(stored).collect()
            }
            Held::Split { part, dims: [_, rows, cols] } => {
                let all = rows * part.split.count();
                let runs = part.split.runs(part.part, all).unwrap_or_default();
                let run = |run: &Run| Piece {
                    tensor: part.tensor.to_owned(),
                    rows: Some(RowRange { first: expert * all + run.at, count: run.count, cols: *cols }),
                    of: Lines { first: run.first, step: run.step, count: run.count },
                };
                runs.iter().map(run).collect()
            }
        }
    }
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
        if let Some(part) = base.part(&name).filter(|part| part.split.experts) {
            return of_split(&name, part).map(Some);
        }
        let Some(tensors) = base.stacked(&name) else { continue };
        let dims = tensors.shape().map_err(|why| Error::new(Kind::MissingTensor, format!("{name}: {why}")))?;
        return Ok(Some(Held::OneByOne { tensors: tensors.clone(), dims }));
    }
    Ok(None)
}

/// A parameter that one tensor holds with others, or in another order.
fn of_split<'b>(name: &str, part: Part<'b>) -> Result<Held<'b>> {
    let shape = format!("{name} is a part of {}, whose shape is {:?}", part.tensor, part.shape);
    let [experts, rows, cols] = *part.shape else { return Err(Error::new(Kind::ShapeMismatch, shape)) };
    match part.split.runs(part.part, rows) {
        None => Err(Error::new(Kind::ShapeMismatch, shape)),
        Some(runs) if (runs.len() as u64).saturating_mul(experts) > MAX_PIECES => {
            let text = format!(
                "{shape}: its rows are stored in another order, which would take more than {MAX_PIECES} portions"
            );
            Err(Error::new(Kind::Unsupported, text)
                .hint("load the base with transformers, and save its state dict as it is"))
        }
        Some(_) => Ok(Held::Split { part, dims: [experts, rows / part.split.count(), cols] }),
    }
}

/// Sorts the parameters of a module as its class registers them.
fn sort(module: &str, found: &mut [(&str, Held<'_>)], base: &Names<'_>) -> Result<()> {
    if found.len() == 1 {
        return Ok(());
    }
    let order = candidates(module).map(|path| base.class().parameters_of(&path)).find(|order| !order.is_empty());
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
