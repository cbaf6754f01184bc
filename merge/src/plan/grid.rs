//! The layer set as a grid: kinds of tensors against layers, each cell coloured by how far it is.
//!
//! A column is a layer: the first number in a tensor's name. A row is what is left of the name; numbers further on (an
//! expert's) are folded into `*`, so a cell may stand for several tensors. Tensors outside the layers have the column
//! without a name.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::output::OutputFile;

/// How far something is. Several things together are waiting, or done, only if all of them are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing of it is there and nobody works on it.
    Waiting,
    /// Somebody works on it, or some of it is there.
    Running,
    /// All of it is there.
    Done,
}

impl State {
    /// Of two things together: waiting or done only if both are.
    fn fold(self, other: State) -> State {
        if self == other { self } else { State::Running }
    }
}

/// The layer set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grid {
    /// The layers, by number; the first, with the empty name, holds what is outside them (if anything is).
    pub columns: Vec<String>,
    /// The kinds of tensors, in the order in which they first occur.
    pub rows: Vec<Row>,
}

/// One kind of tensor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name without the layer.
    pub name: String,
    /// A cell a column; `None` where the layer has no such tensor.
    pub cells: Vec<Option<State>>,
}

/// The grid of an output; `part` tells the state of a part of a file, by their numbers.
pub fn grid(files: &[OutputFile], part_size: u64, part: impl Fn(u32, u32) -> State) -> Grid {
    let mut order: Vec<String> = Vec::new();
    let mut cells: BTreeMap<String, BTreeMap<Option<u64>, State>> = BTreeMap::new();
    for (file, number) in files.iter().zip(0..) {
        for tensor in &file.tensors {
            let parts = part_range(tensor.offset, tensor.length, part_size);
            let Some(state) = parts.map(|p| part(number, p)).reduce(State::fold) else { continue };
            let (layer, name) = place(&tensor.name);
            let row = cells.entry(name.clone()).or_insert_with(|| {
                order.push(name);
                BTreeMap::new()
            });
            row.entry(layer).and_modify(|s| *s = s.fold(state)).or_insert(state);
        }
    }
    let mut layers: Vec<Option<u64>> = cells.values().flat_map(BTreeMap::keys).copied().collect();
    layers.sort_unstable();
    layers.dedup();
    let row = |name: String| {
        let states = &cells[&name];
        Row { cells: layers.iter().map(|layer| states.get(layer).copied()).collect(), name }
    };
    Grid {
        rows: order.into_iter().map(row).collect(),
        columns: layers.iter().map(|layer| layer.map_or_else(String::new, |n| n.to_string())).collect(),
    }
}

/// The parts that some bytes of a file touch.
fn part_range(offset: u64, length: u64, part_size: u64) -> std::ops::Range<u32> {
    let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX);
    let end = if length == 0 { 0 } else { (offset + length).div_ceil(part_size) };
    number(offset / part_size)..number(end)
}

/// The layer in a tensor's name, and the name without it: `model.layers.7.mlp.experts.3.up_proj.weight` is layer 7 of
/// `mlp.experts.*.up_proj.weight`.
fn place(name: &str) -> (Option<u64>, String) {
    let numbered = |component: &str| component.parse::<u64>().ok();
    let components: Vec<&str> = name.split('.').collect();
    let Some(at) = components.iter().position(|c| numbered(c).is_some()) else { return (None, name.to_owned()) };
    let rest = components[at + 1..].iter().map(|c| if numbered(c).is_some() { "*" } else { c });
    (numbered(components[at]), rest.collect::<Vec<_>>().join("."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::output::format::Format;
    use crate::output::segment::Span;
    use crate::recipe::{Placed, Recipe};
    use crate::tensor::Dtype;

    fn file(tensors: &[(&str, u64)]) -> OutputFile {
        let mut offset = 10;
        let mut placed = Vec::new();
        for (name, length) in tensors {
            let source =
                Source { name: (*name).into(), object: ObjectId(0), offset: 0, dtype: Dtype::U8, shape: vec![*length] };
            placed.push(Placed {
                name: (*name).into(),
                dtype: Dtype::U8,
                shape: vec![*length],
                offset,
                length: *length,
                recipe: Recipe::Copy(source),
                portion: None,
            });
            offset += length;
        }
        OutputFile {
            name: "f".into(),
            size: offset,
            format: Format::of(&BTreeMap::new()),
            literals: vec![Span { offset: 0, length: 10 }],
            tensors: placed,
            trailer: 0,
        }
    }

    #[test]
    fn names_are_split_at_the_layer_and_experts_are_folded() {
        assert_eq!(place("model.layers.12.self_attn.q_proj.weight"), (Some(12), "self_attn.q_proj.weight".into()));
        assert_eq!(
            place("model.layers.0.mlp.experts.63.up_proj.weight"),
            (Some(0), "mlp.experts.*.up_proj.weight".into())
        );
        assert_eq!(place("transformer.h.3.attn.c_attn.weight"), (Some(3), "attn.c_attn.weight".into()));
        assert_eq!(place("lm_head.weight"), (None, "lm_head.weight".into()));
    }

    #[test]
    fn a_cell_shows_all_parts_that_its_tensors_touch() {
        use State::{Done, Running, Waiting};
        // Parts of 100 bytes: the embedding lies in parts 0 and 1, q of layer 0 in 1, of layer 1 in 1 and 2, norm in 2.
        let files = [file(&[("embed", 100), ("l.0.q", 60), ("l.1.q", 60), ("l.10.norm", 5)])];
        let states = [Done, Running, Waiting];
        let grid = grid(&files, 100, |_, part| states[part as usize]);
        assert_eq!(grid.columns, ["", "0", "1", "10"], "layers are ordered by number");
        let rows: Vec<_> = grid.rows.iter().map(|r| (r.name.as_str(), r.cells.clone())).collect();
        assert_eq!(
            rows,
            [
                ("embed", vec![Some(Running), None, None, None]),
                ("q", vec![None, Some(Running), Some(Running), None]),
                ("norm", vec![None, None, None, Some(Waiting)]),
            ]
        );
    }

    #[test]
    fn a_tensor_without_elements_has_no_cell() {
        assert_eq!(grid(&[file(&[("l.0.empty", 0)])], 100, |_, _| State::Done).rows, []);
    }
}
