//! What torch's functions would make of their arguments, written down instead of made.

use super::global::{Global, Rebuild};
use super::refuse::{bad, shown, unsupported};
use super::value::{Heap, Storage, Tensor, Tuple, Value};
use crate::error::Result;
use crate::tensor::Dtype;

/// The most dimensions of a tensor. Model weights have up to five.
const MAX_DIMENSIONS: usize = 32;

/// The storage that a persistent id refers to: `("storage", class, key, location, elements)`.
pub(super) fn storage<'a>(id: Value<'a>, heap: &Heap<'a>) -> Result<Storage<'a>> {
    let parts = match id {
        Value::Tuple(parts) => heap.items(parts),
        _ => return Err(bad(format!("the persistent id is {}", id.kind()))),
    };
    match *parts {
        [
            Value::Text("storage"),
            Value::Global(Global::Storage(dtype)),
            Value::Text(key),
            Value::Text(_),
            Value::Int(n),
        ] => {
            let elements = u64::try_from(n).map_err(|_| bad(format!("storage {} has {n} elements", shown(key))))?;
            Ok(Storage { key, dtype, elements })
        }
        _ => Err(bad("the persistent id does not name a storage")),
    }
}

/// Calls one of the allowed globals.
pub(super) fn call<'a>(callee: Global, args: Tuple, heap: &mut Heap<'a>) -> Result<Value<'a>> {
    let function = match callee {
        Global::OrderedDict => match heap.items(args) {
            [] => return heap.dict(true),
            _ => return Err(bad("OrderedDict is called with arguments")),
        },
        Global::Size => match *heap.items(args) {
            [size @ Value::Tuple(_)] => return Ok(size),
            _ => return Err(bad("torch.Size is called with something else than one tuple")),
        },
        Global::Storage(_) | Global::Dtype(_) => return Err(bad("a storage class or dtype is called")),
        Global::Rebuild(function) => function,
    };
    let given = heap.items(args);
    match (function, given) {
        (Rebuild::Tensor, &[storage, offset, shape, strides]) => tensor(heap, storage, None, [offset, shape, strides]),
        (Rebuild::TensorV2, &[storage, offset, shape, strides, Value::Bool(_), _, ref rest @ ..]) if rest.len() < 2 => {
            refuse_flags(rest, heap)?;
            tensor(heap, storage, None, [offset, shape, strides])
        }
        (
            Rebuild::TensorV3,
            &[storage, offset, shape, strides, Value::Bool(_), _, Value::Global(Global::Dtype(dtype)), ref rest @ ..],
        ) if rest.len() < 2 => {
            refuse_flags(rest, heap)?;
            tensor(heap, storage, Some(dtype), [offset, shape, strides])
        }
        (Rebuild::Parameter, &[data @ Value::Tensor(_), Value::Bool(_), _])
        | (Rebuild::ParameterWithState, &[data @ Value::Tensor(_), Value::Bool(_), _, _]) => Ok(data),
        _ => {
            let kinds: Vec<_> = given.iter().take(10).map(|v| v.kind()).collect();
            Err(bad(format!("torch._utils.{} is called with ({})", function.name(), kinds.join(", "))))
        }
    }
}

/// The seventh argument says whether the numbers stand conjugated or negated in the file.
fn refuse_flags(rest: &[Value<'_>], heap: &Heap<'_>) -> Result<()> {
    match rest.first() {
        None | Some(Value::None) => Ok(()),
        Some(Value::Dict(flags)) => {
            let set = heap.dict_of(*flags).entries.iter().find(|(_, value)| *value != Value::Bool(false));
            match set {
                None => Ok(()),
                Some((key, _)) => {
                    let flag = if let Value::Text(key) = key { shown(key) } else { key.kind().to_owned() };
                    Err(unsupported(format!("a tensor is stored with the flag {flag}"))
                        .hint("apply resolve_conj() and resolve_neg() before saving"))
                }
            }
        }
        Some(other) => Err(bad(format!("the metadata of a tensor is {}", other.kind()))),
    }
}

fn tensor<'a>(
    heap: &mut Heap<'a>,
    storage: Value<'a>,
    dtype: Option<Dtype>,
    [offset, shape, strides]: [Value<'a>; 3],
) -> Result<Value<'a>> {
    let (Value::Storage(storage), Value::Int(offset), Value::Tuple(shape), Value::Tuple(strides)) =
        (storage, offset, shape, strides)
    else {
        return Err(bad(format!(
            "a tensor is made of {}, {}, {} and {}",
            storage.kind(),
            offset.kind(),
            shape.kind(),
            strides.kind()
        )));
    };
    // A typed storage knows its elements, an untyped one is told.
    let dtype = match (heap.storage_of(storage).dtype, dtype) {
        (Some(dtype), None) | (None, Some(dtype)) => dtype,
        (Some(_), Some(_)) => return Err(bad("a tensor with a dtype on a storage with a dtype")),
        (None, None) => return Err(bad("a tensor without a dtype on a storage without a dtype")),
    };
    let offset = u64::try_from(offset).map_err(|_| bad(format!("a tensor at offset {offset}")))?;
    let (sizes, steps) = (heap.items(shape), heap.items(strides));
    if sizes.len() != steps.len() {
        return Err(bad(format!("a tensor with {} sizes and {} strides", sizes.len(), steps.len())));
    }
    if sizes.len() > MAX_DIMENSIONS {
        return Err(unsupported(format!("a tensor with {} dimensions, the limit is {MAX_DIMENSIONS}", sizes.len())));
    }
    if let Some(wrong) = sizes.iter().chain(steps).find(|v| !matches!(v, Value::Int(0..))) {
        let wrong = if let Value::Int(n) = wrong { n.to_string() } else { wrong.kind().to_owned() };
        return Err(bad(format!("a size or stride is {wrong}")));
    }
    heap.tensor(Tensor { storage, dtype, offset, shape, strides })
}
