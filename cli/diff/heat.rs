//! The change as a heat map: kinds of tensors against layers, each cell coloured by its relative norm.

use std::collections::BTreeMap;
use std::fmt::Write;

use shardfuse_merge::plan::grid::{Place, place};

use super::change::{Change, Compared};
use super::sums::Sums;

/// Pixels of a cell, and of the gap between two.
const CELL: usize = 18;
const GAP: usize = 2;
/// Pixels of a letter, about, in the size of the labels.
const LETTER: usize = 7;
/// Pixels above the first row.
const TOP: usize = 46;
/// From the least change to the largest: of light and dark, also for those who do not tell colours apart.
const COLOURS: [[u8; 3]; 5] = [[237, 244, 250], [189, 215, 231], [107, 174, 214], [33, 113, 181], [8, 48, 107]];

/// The tensors of a cell together.
#[derive(Debug, Default)]
struct Cell {
    sums: Sums,
    tensors: u64,
    differ: u64,
    /// Whether some differ and were not compared by values.
    unknown: bool,
}

impl Cell {
    fn add(&mut self, change: &Change) {
        self.sums.before += change.sums.before;
        self.sums.delta += change.sums.delta;
        self.tensors += 1;
        self.differ += u64::from(!change.same());
        self.unknown |= !change.same() && change.compared != Compared::Values;
    }

    /// Its change, if it has one that can be told.
    fn relative(&self) -> Option<f64> {
        self.sums.relative().filter(|relative| *relative > 0.0)
    }
}

/// Draws the changes. The picture stands by itself.
pub fn svg(changes: &[Change]) -> String {
    let mut order: Vec<String> = Vec::new();
    let mut cells: BTreeMap<(String, Option<u64>), Cell> = BTreeMap::new();
    for change in changes {
        let Place { layer, kind: name, .. } = place(&change.tensor);
        if !order.contains(&name) {
            order.push(name.clone());
        }
        cells.entry((name, layer)).or_default().add(change);
    }
    let mut layers: Vec<Option<u64>> = cells.keys().map(|(_, layer)| *layer).collect();
    layers.sort_unstable();
    layers.dedup();
    let known = || cells.values().filter_map(Cell::relative);
    let (least, most) = known().fold((f64::INFINITY, 0.0f64), |(least, most), r| (least.min(r), most.max(r)));
    let left = order.iter().map(|name| name.chars().count()).max().unwrap_or(0) * LETTER + 16;
    let (width, height) =
        ((left + layers.len() * (CELL + GAP) + 16).max(left + 400), TOP + order.len() * (CELL + GAP) + 40);
    let mut out = String::new();
    let _ = writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" \
         font-family=\"ui-monospace, monospace\" font-size=\"11\" role=\"img\">"
    );
    let _ = writeln!(out, "<title>Relative norm of the change by layer and kind of tensor</title>");
    let _ = writeln!(out, "<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>");
    for (column, layer) in layers.iter().enumerate() {
        // Every fifth number has room.
        if let Some(layer) = layer.filter(|layer| layers.len() <= 12 || layer % 5 == 0) {
            let x = left + column * (CELL + GAP) + CELL / 2;
            let _ = writeln!(out, "<text x=\"{x}\" y=\"{}\" text-anchor=\"middle\">{layer}</text>", TOP - 8);
        }
    }
    for (row, name) in order.iter().enumerate() {
        let y = TOP + row * (CELL + GAP);
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>", left - 8, y + 13, escape(name));
        for (column, layer) in layers.iter().enumerate() {
            let Some(cell) = cells.get(&(name.clone(), *layer)) else { continue };
            let x = left + column * (CELL + GAP);
            let _ = writeln!(
                out,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" fill=\"{}\" stroke=\"#c8ced6\"><title>{}</title></rect>",
                fill(cell, least, most),
                escape(&told(name, *layer, cell))
            );
        }
    }
    legend(&mut out, left, TOP + order.len() * (CELL + GAP) + 10, (least, most));
    out.push_str("</svg>\n");
    out
}

/// What a cell is, for who points at it.
fn told(name: &str, layer: Option<u64>, cell: &Cell) -> String {
    let layer = layer.map_or_else(String::new, |layer| format!("layer {layer}, "));
    let change = match (cell.relative(), cell.unknown, cell.differ) {
        (_, _, 0) => "unchanged".to_owned(),
        (Some(relative), ..) => format!("relative norm {relative:.2e}"),
        (None, ..) => "changed, the norm is not known".to_owned(),
    };
    let tensors =
        if cell.tensors > 1 { format!(" ({} of {} tensors differ)", cell.differ, cell.tensors) } else { String::new() };
    format!("{layer}{name}: {change}{tensors}")
}

/// The colour of a cell. The scale is logarithmic.
fn fill(cell: &Cell, least: f64, most: f64) -> String {
    match cell.relative() {
        Some(relative) => colour(if most > least { (relative / least).ln() / (most / least).ln() } else { 1.0 }),
        None if cell.differ > 0 => "#f2c14e".to_owned(),
        None => "#ffffff".to_owned(),
    }
}

/// The colour of a place on the scale, from 0 to 1.
fn colour(at: f64) -> String {
    let scaled = at.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f64;
    let first = (scaled as usize).min(COLOURS.len() - 2);
    let mix = |i: usize| {
        let (from, to) = (f64::from(COLOURS[first][i]), f64::from(COLOURS[first + 1][i]));
        (from + (to - from) * (scaled - first as f64)).round() as u8
    };
    format!("#{:02x}{:02x}{:02x}", mix(0), mix(1), mix(2))
}

/// What the colours mean.
fn legend(out: &mut String, x: usize, y: usize, (least, most): (f64, f64)) {
    let mut entries = vec![("#ffffff".to_owned(), "unchanged".to_owned())];
    if most > least {
        entries.push((colour(0.0), format!("{least:.1e}")));
    }
    if most > 0.0 {
        entries.push((colour(1.0), format!("{most:.1e}")));
    }
    entries.push(("#f2c14e".to_owned(), "not by values".to_owned()));
    let mut x = x;
    for (colour, label) in entries {
        let _ = writeln!(
            out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"12\" height=\"12\" fill=\"{colour}\" stroke=\"#c8ced6\"/>"
        );
        let _ = writeln!(out, "<text x=\"{}\" y=\"{}\">{label}</text>", x + 16, y + 10);
        x += 16 + (label.len() + 2) * LETTER;
    }
}

/// Text in XML.
pub fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            // XML has no control characters.
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(name: &str, before: f32, after: f32) -> Change {
        let mut sums = Sums::default();
        sums.add(0, &[before], &[after]);
        let shape = || Some(vec![1]);
        Change::not(name, [None, None], [shape(), shape()]).with(Compared::Values, sums)
    }

    #[test]
    fn a_cell_says_what_it_is_and_names_are_no_markup() {
        let svg = svg(&[change("l.0.<q>", 1.0, 2.0), change("l.1.<q>", 1.0, 1.0), change("norm", 1.0, 1.01)]);
        assert!(svg.contains("<title>layer 0, &lt;q&gt;: relative norm 1.00e0</title>"), "{svg}");
        assert!(
            svg.contains("<title>layer 1, &lt;q&gt;: unchanged</title>") && svg.contains("norm: relative norm 1.00e-2")
        );
        assert!(!svg.contains("<q>") && svg.trim_end().ends_with("</svg>"));
        assert_eq!(svg.matches("<rect").count(), 1 + 3 + 4, "the ground, a cell for each tensor, the legend");
    }

    #[test]
    fn the_scale_goes_from_the_least_change_to_the_largest() {
        assert_eq!((colour(0.0), colour(1.0), colour(2.0)), ("#edf4fa".into(), "#08306b".into(), "#08306b".into()));
        let light = |hex: &str| u64::from_str_radix(&hex[1..3], 16).unwrap();
        let all: Vec<u64> = (0..=20).map(|i| light(&colour(f64::from(i) / 20.0))).collect();
        assert!(all.is_sorted_by(|one, other| one >= other), "{all:?}");
    }
}
