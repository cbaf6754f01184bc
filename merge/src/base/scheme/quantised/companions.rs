//! The tensors beside the codes of a parameter, by the endings of their names.

use crate::base::scheme::claim::{StoredForm, Tensors};
use crate::inventory::Source;

/// The places of the tensors whose names are `stem` and one of these endings, in this order, behind the codes' own place.
/// None if one that is needed is not there.
pub(super) fn beside(
    codes: usize,
    stem: &str,
    tensors: &Tensors<'_>,
    needed: &[&str],
    also: &[&str],
) -> Option<Vec<usize>> {
    let find = |ending: &&str| tensors.find(&format!("{stem}{ending}"));
    let mut places = vec![codes];
    for ending in needed {
        places.push(find(ending)?);
    }
    places.extend(also.iter().filter_map(find));
    Some(places)
}

/// The tensor of a parameter whose name ends so, with its place.
pub(super) fn named<'a>(form: StoredForm<'a>, ending: &str) -> Option<(usize, &'a Source)> {
    form.tensors.iter().enumerate().find(|(_, tensor)| tensor.name.ends_with(ending))
}

/// The tensor of a parameter whose name ends so, with its place.
///
/// # Errors
/// If there is none.
pub(super) fn needed<'a>(form: StoredForm<'a>, ending: &str) -> Result<(usize, &'a Source), String> {
    let first = form.tensors.first().map_or("the codes", |codes| codes.name.as_str());
    named(form, ending).ok_or_else(|| format!("{first} has no tensor *{ending} beside it"))
}

/// A tensor with its type and shape, for people.
pub(super) fn shown(tensor: &Source) -> String {
    format!("{} ({:?} {:?})", tensor.name, tensor.dtype, tensor.shape)
}

/// A shape whose last dimension is so many times as large.
pub(super) fn widened(shape: &[u64], times: u64) -> Vec<u64> {
    let mut dims = shape.to_vec();
    if let Some(last) = dims.last_mut() {
        *last = last.saturating_mul(times);
    }
    dims
}

/// How many elements a shape has, which may come from another process. `None` beyond 64 bits.
pub(super) fn elements(shape: &[u64]) -> Option<u64> {
    shape.iter().try_fold(1u64, |all, side| all.checked_mul(*side))
}

/// The extents of a matrix that has elements, and not more than 2^60.
///
/// # Errors
/// If it is another shape.
pub(super) fn extents(tensor: &Source, rows: u64, cols: u64) -> Result<(), String> {
    let few = elements(&[rows, cols]).is_some_and(|all| (1..=1 << 60).contains(&all));
    if few { Ok(()) } else { Err(format!("{} would be a parameter of {rows} x {cols}", shown(tensor))) }
}
