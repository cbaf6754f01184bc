//! The state dict: names and tensors, flat.

use std::collections::HashSet;

use super::machine::Pickled;
use super::refuse::{bad, shown, unsupported};
use super::value::{Heap, Tuple, Value};
use crate::error::{Error, Result};

/// A state dict. The numbers are those of the heap.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct State<'a> {
    /// In the order of the dict.
    pub(super) tensors: Vec<(&'a str, u32)>,
    /// Names of entries that are plain values.
    pub(super) skipped: Vec<String>,
}

/// Takes a pickle for a state dict.
pub(super) fn read<'a>(pickled: &Pickled<'a>) -> Result<State<'a>> {
    let Pickled { root, heap } = pickled;
    let Value::Dict(dict) = *root else {
        return Err(unsupported(format!("the pickle holds {}, expected a dict of names and tensors", root.kind()))
            .hint("save the model's state_dict()"));
    };
    let mut state = State { tensors: Vec::new(), skipped: Vec::new() };
    let mut names = Vec::new();
    let mut seen = Seen::default();
    let dict = heap.dict_of(dict);
    if dict.attributes.is_some_and(|attributes| seen.holds_tensor(Value::Dict(attributes), heap)) {
        return Err(unsupported("the attributes of the state dict hold tensors, expected its entries only"));
    }
    for (key, value) in &dict.entries {
        let Value::Text(name) = *key else {
            return Err(unsupported(format!("a key of the state dict is {}, expected a name", key.kind())));
        };
        match *value {
            Value::Tensor(tensor) => state.tensors.push((name, tensor)),
            Value::Storage(_) => return Err(unsupported(format!("entry {} is a storage, not a tensor", shown(name)))),
            value if seen.holds_tensor(value, heap) => return Err(nested(name, value)),
            _ => state.skipped.push(name.to_owned()),
        }
        names.push(name);
    }
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(bad(format!("the state dict has {} twice", shown(pair[0])))),
        None => Ok(state),
    }
}

fn nested(name: &str, value: Value<'_>) -> Error {
    let name = shown(name);
    unsupported(format!(
        "entry {name} is {} that holds tensors, expected a flat dict of names and tensors",
        value.kind()
    ))
    .hint(format!("this looks like a training checkpoint; save its entry {name} alone with torch.save"))
}

/// The containers that were found to hold no tensor. Shared by all entries, so that each is looked at once.
#[derive(Default)]
struct Seen(HashSet<Container>);

#[derive(PartialEq, Eq, Hash)]
enum Container {
    Tuple(Tuple),
    List(u32),
    Dict(u32),
}

impl Seen {
    fn holds_tensor<'a>(&mut self, value: Value<'a>, heap: &Heap<'a>) -> bool {
        let mut ahead = vec![value];
        while let Some(value) = ahead.pop() {
            match value {
                Value::Tensor(_) | Value::Storage(_) => return true,
                Value::Tuple(t) if self.0.insert(Container::Tuple(t)) => ahead.extend(heap.items(t)),
                Value::List(l) if self.0.insert(Container::List(l)) => ahead.extend(heap.list_items(l)),
                Value::Dict(d) if self.0.insert(Container::Dict(d)) => {
                    let dict = heap.dict_of(d);
                    ahead.extend(dict.entries.iter().flat_map(|(key, value)| [*key, *value]));
                    ahead.extend(dict.attributes.map(Value::Dict));
                }
                _ => {}
            }
        }
        false
    }
}
