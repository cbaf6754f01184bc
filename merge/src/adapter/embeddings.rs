//! Edits of the two embeddings of a tied model, which share one tensor.

use std::collections::HashMap;

use super::edit::{Change, Edit, Origin};
use super::key::classify;
use super::rename::candidates;
use crate::base::tied::{self, Sides};
use crate::error::{Error, Kind, Result};
use crate::inventory::{AdapterInventory, BaseInventory, Equal, Source};

/// What an adapter's edits mean for a tied model.
#[derive(Debug)]
pub enum Shared {
    /// It stays tied.
    Tied {
        /// The edits that are made, none of them of the output embedding.
        edits: Vec<Edit>,
        /// The tensors that must be equal for that.
        equals: Vec<Equal>,
        /// Whether the shared tensor changes.
        changes: bool,
    },
    /// The two become different tensors, and these edits are made after that.
    Untied(Vec<Edit>),
}

/// Turns edits of the two embeddings into edits of the shared tensor, or unties the model.
///
/// - The same change on both sides (saved twice by `ensure_weight_tying`, or a resized base saved on both sides)
///   applies once. The two must be equal, which is checked before work starts.
/// - LoRA or token rows on the input embedding change the shared tensor, as PEFT's merge does.
/// - A module trained whole on one side, or anything on the output side alone, unties the model.
///
/// # Errors
/// `conflict` if the two sides of a change differ by what the headers tell.
pub fn share((input, output): Sides, edits: Vec<Edit>, ensure: bool) -> Result<Shared> {
    let (outs, rest): (Vec<Edit>, Vec<Edit>) = edits.into_iter().partition(|e| e.tensor == output);
    let ins: Vec<&Edit> = rest.iter().filter(|e| e.tensor == input).collect();
    let shared = outs.iter().all(|out| ins.iter().any(|inn| are_one(&inn.change, &out.change, ensure)));
    let trained_alone =
        outs.is_empty() && ins.iter().any(|e| matches!(e.change, Change::Replace { origin: Origin::Trained, .. }));
    if !shared || trained_alone {
        return Ok(Shared::Untied(rest.into_iter().chain(outs).collect()));
    }
    let mut equals = Vec::new();
    for out in &outs {
        for inn in &ins {
            must_equal(&inn.change, &out.change, &mut equals)?;
        }
    }
    let changes = !ins.is_empty();
    Ok(Shared::Tied { edits: rest, equals, changes })
}

/// Whether changes of the two sides are one change of the shared tensor.
fn are_one(inn: &Change, out: &Change, ensure: bool) -> bool {
    match (inn, out) {
        (Change::Replace { origin: a, .. }, Change::Replace { origin: b, .. }) => {
            ensure || (*a == Origin::Resized && *b == Origin::Resized)
        }
        (Change::Rows { .. }, Change::Rows { .. }) => true,
        (Change::Delta(_), Change::Delta(_)) => ensure,
        _ => false,
    }
}

/// Adds the tensors that must be equal for two changes to be the same.
fn must_equal(inn: &Change, out: &Change, equals: &mut Vec<Equal>) -> Result<()> {
    let pairs = match (inn, out) {
        (Change::Replace { source: a, .. }, Change::Replace { source: b, .. }) => vec![(a, b, false)],
        (Change::Rows { source: a, rows: ra }, Change::Rows { source: b, rows: rb }) => {
            if ra != rb {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("{} and {} name different token rows of one tied embedding", a.name, b.name),
                ));
            }
            vec![(a, b, false)]
        }
        (Change::Delta(a), Change::Delta(b)) => a.same_as(b),
        _ => return Ok(()),
    };
    for (left, right, transposed) in pairs {
        let equal = Equal::new(left, right, transposed, "both sides of a tied embedding carry it");
        equal.check()?;
        equals.push(equal);
    }
    Ok(())
}

/// The input and the output embedding of the base's files, if a plan depends on whether they hold the same values: the
/// base may be tied, the files hold both, and an adapter changes one of them.
pub fn to_compare<'a>(
    base: &'a BaseInventory,
    adapters: &[AdapterInventory],
    asked: Option<bool>,
) -> Option<(&'a Source, &'a Source)> {
    if asked == Some(false) || tied::is_tied(&base.config) == Some(false) {
        return None;
    }
    let tensors: HashMap<&str, &Source> =
        base.shards.iter().flat_map(|s| &s.tensors).map(|t| (t.name.as_str(), t)).collect();
    let (input, output) = tied::sides(&base.config, |name| tensors.contains_key(name))?;
    let pair = (*tensors.get(input)?, *tensors.get(output)?);
    let is_side = |module: &str| [input, output].iter().any(|side| side.strip_suffix(".weight") == Some(module));
    let touches = |adapter: &AdapterInventory| {
        let row = adapter.config.kind.row();
        let modules = adapter.all_tensors().map(|t| classify(&t.name, row).module);
        modules.into_iter().any(|module| candidates(&module).iter().any(|name| is_side(name)))
    };
    adapters.iter().any(touches).then_some(pair)
}
