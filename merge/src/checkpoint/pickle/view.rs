//! Tensors as ranges of their storages.
//!
//! A tensor is a view of a storage: an offset, a shape and strides. Where the strides are those of rows one after
//! another, its bytes are a range. Other views would have to be gathered, and two views that overlap in part would have
//! to be written twice, or once with holes; both are rare in files of weights, and refused.

use std::collections::HashMap;

use super::machine::Pickled;
use super::refuse::{bad, shown, unsupported};
use super::state::State;
use super::value::{Tensor, Value};
use crate::checkpoint::header::tensor_bytes;
use crate::error::Result;
use crate::tensor::{Dtype, DtypeExt};

/// A tensor and its place in a storage, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    pub(super) shape: Vec<u64>,
    /// The number of the storage in [`Layout::storages`].
    pub(super) storage: usize,
    pub(super) start: u64,
    pub(super) length: u64,
}

/// A storage that a tensor uses.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stored {
    /// The name of its file below `data/`.
    pub(super) key: String,
    /// Its length in bytes.
    pub(super) bytes: u64,
}

/// All tensors of a file, in the order of its state dict, and the storages that they use.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) views: Vec<View>,
    pub(super) storages: Vec<Stored>,
}

/// Lays out the tensors of a state dict.
pub(super) fn lay_out(state: &State<'_>, pickled: &Pickled<'_>) -> Result<Layout> {
    let mut layout = Layout::default();
    let mut numbers = HashMap::new();
    for (name, index) in &state.tensors {
        let tensor = pickled.heap.tensor_of(*index);
        let number = match numbers.get(&tensor.storage) {
            Some(number) => *number,
            None => {
                layout.storages.push(stored(tensor.storage, pickled)?);
                numbers.insert(tensor.storage, layout.storages.len() - 1);
                layout.storages.len() - 1
            }
        };
        let bytes = layout.storages[number].bytes;
        let mut view = view(name, &tensor, bytes, pickled).map_err(|e| e.at(format_args!("tensor {}", shown(name))))?;
        view.storage = number;
        layout.views.push(view);
    }
    refuse_overlaps(&layout.views)?;
    Ok(layout)
}

fn stored(storage: u32, pickled: &Pickled<'_>) -> Result<Stored> {
    let storage = pickled.heap.storage_of(storage);
    let width = storage.dtype.map_or(Some(1), Dtype::bytes);
    match width.and_then(|w| storage.elements.checked_mul(w)) {
        Some(bytes) => Ok(Stored { key: storage.key.to_owned(), bytes }),
        None => Err(bad(format!("storage {} cannot have {} elements", shown(storage.key), storage.elements))),
    }
}

/// The view of a tensor on a storage of `available` bytes.
fn view(name: &str, tensor: &Tensor, available: u64, pickled: &Pickled<'_>) -> Result<View> {
    let shape = numbers(pickled.heap.items(tensor.shape))?;
    let strides = numbers(pickled.heap.items(tensor.strides))?;
    let too_large = || bad(format!("shape {shape:?} at element {} does not fit into {available} bytes", tensor.offset));
    let width =
        tensor.dtype.bytes().ok_or_else(|| unsupported(format!("dtype {} is not bytes", tensor.dtype.name())))?;
    let start = tensor.offset.checked_mul(width).ok_or_else(too_large)?;
    let length = tensor_bytes(tensor.dtype, &shape).ok_or_else(too_large)?;
    if start.checked_add(length).is_none_or(|end| end > available) {
        return Err(too_large());
    }
    if length > 0 && !is_contiguous(&shape, &strides) {
        return Err(unsupported(format!(
            "strides {strides:?} of shape {shape:?} are not those of rows one after another"
        ))
        .hint("call contiguous() on it before saving"));
    }
    Ok(View { name: name.to_owned(), dtype: tensor.dtype, shape, storage: 0, start, length })
}

fn numbers(values: &[Value<'_>]) -> Result<Vec<u64>> {
    let number = |v: &Value<'_>| if let Value::Int(n) = v { u64::try_from(*n).ok() } else { None };
    values.iter().map(number).collect::<Option<_>>().ok_or_else(|| bad("a size or stride is not a number"))
}

/// Whether the elements lie in row order without gaps. The stride of a dimension of 1 is never used, so it may be
/// anything. The number of elements must not overflow.
fn is_contiguous(shape: &[u64], strides: &[u64]) -> bool {
    let mut expected = 1;
    shape.iter().zip(strides).rev().all(|(size, stride)| {
        let fits = *size == 1 || *stride == expected;
        expected *= size;
        fits
    })
}

/// Tied weights are the same range twice, and slices of one storage lie side by side; anything between is refused.
fn refuse_overlaps(views: &[View]) -> Result<()> {
    let place = |v: &View| (v.storage, v.start, v.start + v.length);
    let mut order: Vec<&View> = views.iter().filter(|v| v.length > 0).collect();
    order.sort_by_key(|v| place(v));
    for pair in order.windows(2) {
        let (a, b) = (place(pair[0]), place(pair[1]));
        if a != b && a.0 == b.0 && b.1 < a.2 {
            return Err(unsupported(format!(
                "tensors {} and {} share bytes {}..{} of one storage",
                shown(&pair[0].name),
                shown(&pair[1].name),
                b.1,
                a.2.min(b.2)
            ))
            .hint("call clone() on one of them before saving"));
        }
    }
    Ok(())
}
