//! Edits of names that are one parameter.

use std::collections::HashSet;

use super::edit::{Change, Edit, Origin};
use crate::base::tied::TiedSet;
use crate::error::{Error, Kind, Result};
use crate::inventory::Equal;

/// What an adapter's edits mean for a set of names that are one parameter.
#[derive(Debug)]
pub enum Shared {
    /// They stay one.
    Tied {
        /// The edits that are made, all of the set's leader.
        edits: Vec<Edit>,
        /// The tensors that must be equal for that.
        equals: Vec<Equal>,
    },
    /// These names become tensors of their own, and the edits are made after that.
    Untied(Vec<String>, Vec<Edit>),
}

/// Turns edits of the names of a set into edits of the shared tensor, or parts the set.
///
/// - The same change on several names (saved twice by `ensure_weight_tying`, or a resized base or a bias saved under each)
///   applies once. The changes must be equal, which is checked before work starts.
/// - LoRA or token rows on a name that is no output embedding change the shared tensor, as PEFT's merge does.
/// - A module trained whole under one name, or anything on the output embedding alone, parts it from the others.
/// - Parts of the model that are one, such as layers that share a block, stay one: what is laid onto any of their names is laid
///   onto the shared tensor, one after another, as PEFT's merge does.
///
/// # Errors
/// `conflict` if two changes that must be one differ by what the headers tell.
pub fn share(set: &TiedSet, mut edits: Vec<Edit>, ensure: bool) -> Result<Shared> {
    let of_leader = |edit: &Edit| Edit { tensor: set.leader.clone(), ..edit.clone() };
    let lays_on = |edit: &Edit| !matches!(edit.change, Change::Replace { .. } | Change::Rows { .. });
    if !set.repeated.is_empty() && edits.iter().all(lays_on) {
        edits.sort_by_key(|edit| set.repeated.iter().position(|name| *name == edit.tensor));
        return Ok(Shared::Tied { edits: edits.iter().map(of_leader).collect(), equals: Vec::new() });
    }
    let edited: HashSet<&str> = edits.iter().map(|edit| edit.tensor.as_str()).collect();
    let touched: Vec<String> = set.names.iter().filter(|name| edited.contains(name.as_str())).cloned().collect();
    let main = touched.iter().find(|name| !set.is_output(name));
    let (ins, outs): (Vec<&Edit>, Vec<&Edit>) = edits.iter().partition(|edit| Some(&edit.tensor) == main);
    let shared = outs.iter().all(|out| ins.iter().any(|inn| are_one(&inn.change, &out.change, ensure)));
    let trained_alone =
        outs.is_empty() && ins.iter().any(|e| matches!(e.change, Change::Replace { origin: Origin::Trained, .. }));
    if !shared || trained_alone {
        return Ok(Shared::Untied(touched, edits));
    }
    let mut equals = Vec::new();
    for out in &outs {
        for inn in &ins {
            must_equal(&inn.change, &out.change, &mut equals)?;
        }
    }
    Ok(Shared::Tied { edits: ins.into_iter().map(of_leader).collect(), equals })
}

/// Whether changes of two names are one change of the shared tensor.
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
