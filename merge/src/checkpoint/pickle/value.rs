//! What the machine computes with: plain values, and a heap for those that others point to.
//!
//! A container is a number into the heap, never an owner of its elements, so a value that contains itself or is nested
//! a million deep costs no recursion, neither to look at nor to drop.

use super::global::Global;
use super::refuse::bad;
use crate::error::Result;
use crate::tensor::Dtype;

/// The most values that the heap takes: some 300 000 tensors, and 200 MB.
const MAX_VALUES: usize = 1 << 23;

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    Text(&'a str),
    /// A float, bytes, or an integer of more than 64 bits: nothing that a tensor is made of.
    Opaque,
    Tuple(Tuple),
    List(u32),
    Dict(u32),
    Global(Global),
    Storage(u32),
    Tensor(u32),
}

impl Value<'_> {
    /// For messages: `a list`.
    pub(super) fn kind(self) -> &'static str {
        match self {
            Value::None => "None",
            Value::Bool(_) => "a bool",
            Value::Int(_) => "an integer",
            Value::Text(_) => "a string",
            Value::Opaque => "a number or bytes",
            Value::Tuple(_) => "a tuple",
            Value::List(_) => "a list",
            Value::Dict(_) => "a dict",
            Value::Global(_) => "a type or function",
            Value::Storage(_) => "a storage",
            Value::Tensor(_) => "a tensor",
        }
    }
}

/// The elements of a tuple, which lie together on the heap.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Tuple {
    at: u32,
    length: u32,
}

#[derive(Debug, Default)]
pub(super) struct Dict<'a> {
    pub(super) entries: Vec<(Value<'a>, Value<'a>)>,
    /// Whether it is an OrderedDict, which may carry attributes.
    pub(super) ordered: bool,
    /// A dict of its attributes.
    pub(super) attributes: Option<u32>,
}

/// A storage: bytes in a file of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Storage<'a> {
    /// The name of its file below `data/`.
    pub(super) key: &'a str,
    /// The type of its elements; an untyped one counts bytes.
    pub(super) dtype: Option<Dtype>,
    pub(super) elements: u64,
}

/// A tensor, as it was pickled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tensor {
    pub(super) storage: u32,
    pub(super) dtype: Dtype,
    /// In elements.
    pub(super) offset: u64,
    pub(super) shape: Tuple,
    pub(super) strides: Tuple,
}

/// All values that others point to.
#[derive(Debug, Default)]
pub(super) struct Heap<'a> {
    tuples: Vec<Value<'a>>,
    lists: Vec<Vec<Value<'a>>>,
    dicts: Vec<Dict<'a>>,
    storages: Vec<Storage<'a>>,
    tensors: Vec<Tensor>,
    spent: usize,
}

impl<'a> Heap<'a> {
    pub(super) fn tuple(&mut self, items: &[Value<'a>]) -> Result<Value<'a>> {
        self.spend(items.len())?;
        let tuple = Tuple { at: self.tuples.len() as u32, length: items.len() as u32 };
        self.tuples.extend_from_slice(items);
        Ok(Value::Tuple(tuple))
    }

    pub(super) fn list(&mut self) -> Result<Value<'a>> {
        self.spend(1)?;
        self.lists.push(Vec::new());
        Ok(Value::List(self.lists.len() as u32 - 1))
    }

    pub(super) fn dict(&mut self, ordered: bool) -> Result<Value<'a>> {
        self.spend(2)?;
        self.dicts.push(Dict { ordered, ..Dict::default() });
        Ok(Value::Dict(self.dicts.len() as u32 - 1))
    }

    pub(super) fn storage(&mut self, storage: Storage<'a>) -> Result<u32> {
        self.spend(2)?;
        self.storages.push(storage);
        Ok(self.storages.len() as u32 - 1)
    }

    pub(super) fn tensor(&mut self, tensor: Tensor) -> Result<Value<'a>> {
        self.spend(2)?;
        self.tensors.push(tensor);
        Ok(Value::Tensor(self.tensors.len() as u32 - 1))
    }

    /// Appends to a list.
    pub(super) fn append(&mut self, list: u32, items: &[Value<'a>]) -> Result<()> {
        self.spend(2 * items.len())?;
        if let Some(list) = self.lists.get_mut(list as usize) {
            list.extend_from_slice(items);
        }
        Ok(())
    }

    /// Adds to a dict: key, value, key, value.
    pub(super) fn insert(&mut self, dict: u32, items: &[Value<'a>]) -> Result<()> {
        self.spend(2 * items.len())?;
        if let Some(dict) = self.dicts.get_mut(dict as usize) {
            dict.entries.extend(items.chunks_exact(2).map(|pair| (pair[0], pair[1])));
        }
        Ok(())
    }

    /// Gives attributes to an OrderedDict; `false` where the dict is not one.
    pub(super) fn set_attributes(&mut self, dict: u32, attributes: u32) -> bool {
        match self.dicts.get_mut(dict as usize) {
            Some(dict) if dict.ordered => {
                dict.attributes = Some(attributes);
                true
            }
            _ => false,
        }
    }

    pub(super) fn items(&self, tuple: Tuple) -> &[Value<'a>] {
        let from = tuple.at as usize;
        &self.tuples[from..from + tuple.length as usize]
    }

    pub(super) fn list_items(&self, list: u32) -> &[Value<'a>] {
        &self.lists[list as usize]
    }

    pub(super) fn dict_of(&self, dict: u32) -> &Dict<'a> {
        &self.dicts[dict as usize]
    }

    pub(super) fn storage_of(&self, storage: u32) -> Storage<'a> {
        self.storages[storage as usize]
    }

    pub(super) fn tensor_of(&self, tensor: u32) -> Tensor {
        self.tensors[tensor as usize]
    }

    /// Bytes that the heap holds on to.
    #[cfg(test)]
    pub(super) fn footprint(&self) -> usize {
        let value = size_of::<Value<'_>>();
        let lists: usize = self.lists.iter().map(|l| l.capacity() * value).sum();
        let dicts: usize = self.dicts.iter().map(|d| d.entries.capacity() * 2 * value).sum();
        self.tuples.capacity() * value
            + lists
            + dicts
            + self.lists.capacity() * size_of::<Vec<Value<'_>>>()
            + self.dicts.capacity() * size_of::<Dict<'_>>()
            + self.storages.capacity() * size_of::<Storage<'_>>()
            + self.tensors.capacity() * size_of::<Tensor>()
    }

    fn spend(&mut self, values: usize) -> Result<()> {
        self.spent += values;
        if self.spent > MAX_VALUES {
            return Err(bad(format!("the pickle builds more than {MAX_VALUES} values")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_takes_so_many_values_and_no_more() {
        let mut heap = Heap::default();
        heap.spend(MAX_VALUES - 2).unwrap();
        heap.spend(2).unwrap();
        assert!(heap.spend(1).is_err());
        assert!(Heap::default().spend(MAX_VALUES + 1).is_err());
    }
}
