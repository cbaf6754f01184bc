//! The tensors beside the codes of a parameter, by the endings of their names.

use crate::base::scheme::claim::Tensors;

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
