//! The layer set as a grid: kinds of tensors against layers, each cell with what its tensors have in common.
//!
//! A column is a layer: the first number in a tensor's name. A row is what is left of the name; numbers further on (an
//! expert's) are folded into `*`, so a cell may stand for several tensors. Tensors outside the layers have the column
//! without a name. Where tensors belong to numbered experts, a second grid has layers as rows and experts as columns.
//!
//! A grid is for people, and bounded whatever the names are: what is beyond is counted.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::output::OutputFile;

/// Rows of a grid.
const ROWS: usize = 256;
/// Columns of a grid.
const COLUMNS: usize = 1024;

/// What a cell shows of several tensors.
pub trait Fold: Copy {
    /// Of two together.
    fn fold(self, other: Self) -> Self;
}

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

impl Fold for State {
    fn fold(self, other: State) -> State {
        if self == other { self } else { State::Running }
    }
}

/// The layer set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layers<T = State> {
    /// Kinds of tensors against layers.
    #[serde(flatten)]
    pub kinds: Grid<T>,
    /// Layers against experts, where there are numbered ones.
    pub experts: Option<Grid<T>>,
}

/// A grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Grid<T = State> {
    /// The numbers of the columns; the first, with the empty name, holds what is outside them (if anything is).
    pub columns: Vec<String>,
    /// The rows, in the order in which they first occur.
    pub rows: Vec<Row<T>>,
    /// Rows that are left out.
    pub more: usize,
}

/// A row of a grid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Row<T = State> {
    /// Its name: a kind of tensor, or a layer.
    pub name: String,
    /// A cell a column; `None` where there is no such tensor.
    pub cells: Vec<Option<T>>,
}

/// The grid of an output; `part` tells the state of a part of a file, by their numbers.
pub fn grid(files: &[OutputFile], part: impl Fn(u32, u32) -> State) -> Layers {
    let numbered = files.iter().zip(0..);
    let tensors =
        numbered.flat_map(|(file, number)| file.tensors.iter().map(move |tensor| (number, &file.cut.parts, tensor)));
    layers(tensors.filter_map(|(number, parts, tensor)| {
        let parts = parts.touching(&(tensor.offset..tensor.offset + tensor.length));
        Some((tensor.name.as_str(), parts.map(|p| part(number, p)).reduce(State::fold)?))
    }))
}

/// The grid of tensors by name.
pub fn layers<'a, T: Fold>(tensors: impl Iterator<Item = (&'a str, T)>) -> Layers<T> {
    let (mut kinds, mut experts) = (Cells::default(), Cells::default());
    for (name, value) in tensors {
        let Place { layer, kind, expert } = place(name);
        if let (Some(layer), Some(expert)) = (layer, expert) {
            experts.put(format!("layer {layer}"), Some(expert), value);
        }
        kinds.put(kind, layer, value);
    }
    let several = experts.cells.values().any(|row| row.len() > 1);
    Layers { kinds: kinds.grid(), experts: several.then(|| experts.grid()) }
}

/// The cells of a grid while it is made.
struct Cells<T> {
    order: Vec<String>,
    cells: BTreeMap<String, BTreeMap<Option<u64>, T>>,
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Cells { order: Vec::new(), cells: BTreeMap::new() }
    }
}

impl<T: Fold> Cells<T> {
    fn put(&mut self, row: String, column: Option<u64>, value: T) {
        let order = &mut self.order;
        let row = self.cells.entry(row).or_insert_with_key(|name| {
            order.push(name.clone());
            BTreeMap::new()
        });
        row.entry(column).and_modify(|before| *before = before.fold(value)).or_insert(value);
    }

    fn grid(self) -> Grid<T> {
        let more = self.order.len().saturating_sub(ROWS);
        let shown: Vec<(String, &BTreeMap<Option<u64>, T>)> =
            self.order.into_iter().take(ROWS).filter_map(|name| Some((name.clone(), self.cells.get(&name)?))).collect();
        let mut columns: Vec<Option<u64>> = shown.iter().flat_map(|(_, row)| row.keys()).copied().collect();
        columns.sort_unstable();
        columns.dedup();
        columns.truncate(COLUMNS);
        let cells = |row: &BTreeMap<Option<u64>, T>| columns.iter().map(|column| row.get(column).copied()).collect();
        Grid {
            rows: shown.into_iter().map(|(name, row)| Row { cells: cells(row), name }).collect(),
            columns: columns.iter().map(|column| column.map_or_else(String::new, |n| n.to_string())).collect(),
            more,
        }
    }
}

/// Where a tensor belongs.
#[derive(Debug, PartialEq, Eq)]
pub struct Place {
    /// Its layer, if it is of one.
    pub layer: Option<u64>,
    /// The name without the layer.
    pub kind: String,
    /// Its expert, if it is of one.
    pub expert: Option<u64>,
}

/// What a tensor's name tells: `model.layers.7.mlp.experts.3.up_proj.weight` is layer 7 of
/// `mlp.experts.*.up_proj.weight`, expert 3.
pub fn place(name: &str) -> Place {
    let numbered = |component: &str| component.parse::<u64>().ok();
    let components: Vec<&str> = name.split('.').collect();
    let Some(at) = components.iter().position(|c| numbered(c).is_some()) else {
        return Place { layer: None, kind: name.to_owned(), expert: None };
    };
    let rest = components[at + 1..].iter().map(|c| if numbered(c).is_some() { "*" } else { c });
    let of_experts = |pair: &&[&str]| pair[0] == "experts" && numbered(pair[1]).is_some();
    let expert = components[at + 1..].windows(2).find(of_experts).and_then(|pair| numbered(pair[1]));
    Place { layer: numbered(components[at]), kind: rest.collect::<Vec<_>>().join("."), expert }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inventory::{ObjectId, Source};
    use crate::output::format::Format;
    use crate::output::segment::Span;
    use crate::output::{Cut, Parts};
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
            cut: Cut { parts: Parts::even(offset, 100), copied: false },
        }
    }

    #[test]
    fn names_are_split_at_the_layer_and_experts_are_folded() {
        let of = |layer, kind: &str, expert| Place { layer, kind: kind.into(), expert };
        assert_eq!(place("model.layers.12.self_attn.q_proj.weight"), of(Some(12), "self_attn.q_proj.weight", None));
        assert_eq!(
            place("model.layers.0.mlp.experts.63.up_proj.weight"),
            of(Some(0), "mlp.experts.*.up_proj.weight", Some(63))
        );
        assert_eq!(place("transformer.h.3.attn.c_attn.weight"), of(Some(3), "attn.c_attn.weight", None));
        assert_eq!(place("lm_head.weight"), of(None, "lm_head.weight", None));
    }

    #[test]
    fn experts_have_a_grid_of_their_own() {
        use State::{Done, Running, Waiting};
        let tensors = [
            ("l.0.experts.0.up", Done),
            ("l.0.experts.0.down", Waiting),
            ("l.0.experts.1.up", Done),
            ("l.1.experts.1.up", Waiting),
            ("l.1.norm", Done),
        ];
        let Layers { kinds, experts } = layers(tensors.into_iter());
        assert_eq!((kinds.rows.len(), kinds.columns), (3, vec!["0".to_owned(), "1".to_owned()]));
        let experts = experts.unwrap();
        assert_eq!(experts.columns, ["0", "1"]);
        let rows: Vec<_> = experts.rows.iter().map(|r| (r.name.as_str(), r.cells.clone())).collect();
        assert_eq!(rows, [("layer 0", vec![Some(Running), Some(Done)]), ("layer 1", vec![None, Some(Waiting)])]);
    }

    #[test]
    fn no_names_make_a_grid_that_nobody_can_read() {
        let names: Vec<String> = (0..100_000).map(|n| format!("tensor_{n}")).collect();
        let grid = layers(names.iter().map(|name| (name.as_str(), State::Done))).kinds;
        assert_eq!((grid.rows.len(), grid.more), (ROWS, 100_000 - ROWS));
        let names: Vec<String> = (0..100_000).map(|n| format!("layers.{n}.weight")).collect();
        let grid = layers(names.iter().map(|name| (name.as_str(), State::Done))).kinds;
        assert_eq!((grid.rows.len(), grid.columns.len()), (1, COLUMNS));
    }

    #[test]
    fn a_cell_shows_all_parts_that_its_tensors_touch() {
        use State::{Done, Running, Waiting};
        // Parts of 100 bytes: the embedding lies in parts 0 and 1, q of layer 0 in 1, of layer 1 in 1 and 2, norm in 2.
        let files = [file(&[("embed", 100), ("l.0.q", 60), ("l.1.q", 60), ("l.10.norm", 5)])];
        let states = [Done, Running, Waiting];
        let grid = grid(&files, |_, part| states[part as usize]).kinds;
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
        assert_eq!(grid(&[file(&[("l.0.empty", 0)])], |_, _| State::Done).kinds.rows, []);
    }
}
