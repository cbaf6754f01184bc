//! Parts of a model that are one: an encoder that has the decoder's layers, layers that share one block.
//!
//! The table has such sets for all layers at once, and how many layers there are is told by the names that the base holds.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::table::RepeatedSet;
use crate::base::names::Names;

/// A set of names of modules, as the class registers them.
pub(super) struct Found {
    /// The names.
    pub(super) names: Vec<String>,
    /// The number of the one that the others are tied to.
    pub(super) source: usize,
    /// Whether the class ties them whatever config.json says.
    pub(super) always: bool,
}

/// What the base holds of a set of the table.
#[derive(Default)]
struct Held {
    /// The numbers that `#` stands for in its names, with those that `*` stands for in the names that are stored.
    stored: BTreeMap<Vec<u64>, BTreeSet<u64>>,
    /// The numbers of what is beside it.
    layers: BTreeSet<u64>,
}

/// The sets of the table that the base has names of.
pub(super) fn sets(written: &[RepeatedSet], names: &Names<'_>) -> Vec<Found> {
    let mut all: Vec<Held> = written.iter().map(|_| Held::default()).collect();
    let patterns = patterns(written);
    // A class without such sets costs nothing.
    for name in names.all().iter().filter(|_| !written.is_empty()) {
        let module = names.module(name);
        let (pattern, numbers) = numbered(&module);
        for &(set, star, beside) in patterns.get(&pattern).into_iter().flatten() {
            let mut numbers = numbers.clone();
            let number = star.filter(|at| *at < numbers.len()).map(|at| numbers.remove(at));
            match beside {
                true => all[set].layers.extend(number),
                false => all[set].stored.entry(numbers).or_default().extend(number),
            }
        }
    }
    written.iter().zip(all).flat_map(|(set, held)| found(set, held)).collect()
}

/// The sets of the table by the patterns of their names, with the place of `*` among the numbers, and whether it is the name beside
/// them.
fn patterns(written: &[RepeatedSet]) -> HashMap<String, Vec<(usize, Option<usize>, bool)>> {
    let mut patterns: HashMap<String, Vec<_>> = HashMap::new();
    for (at, set) in written.iter().enumerate() {
        let own = set.names.iter().map(|name| (name, false)).chain(set.beside.iter().map(|name| (name, true)));
        for (name, beside) in own {
            let star = name.chars().filter(|c| matches!(c, '#' | '*')).position(|c| c == '*');
            patterns.entry(name.replace('*', "#")).or_default().push((at, star, beside));
        }
    }
    patterns
}

/// A name with `#` for its numbers, and these.
fn numbered(name: &str) -> (String, Vec<u64>) {
    let mut numbers = Vec::new();
    let parts = name.split('.').map(|part| match part.parse() {
        Ok(number) if part.bytes().all(|byte| byte.is_ascii_digit()) => {
            numbers.push(number);
            "#"
        }
        _ => part,
    });
    let pattern = parts.collect::<Vec<_>>().join(".");
    (pattern, numbers)
}

/// The sets that a set of the table is, one for each combination of numbers.
fn found(set: &RepeatedSet, held: Held) -> Vec<Found> {
    let layers: Vec<u64> = held.layers.into_iter().collect();
    let one = |numbers: &[u64], stars: &[u64]| Found {
        names: set.names.iter().flat_map(|name| stars.iter().map(|star| filled(name, numbers, *star))).collect(),
        source: set.source * stars.len(),
        always: set.always,
    };
    let of_numbers = |(numbers, stored): (Vec<u64>, BTreeSet<u64>)| match set.beside {
        None => vec![one(&numbers, &[0])],
        // The first layers hold their blocks, and the others have them in turn.
        Some(_) if layers.len() > stored.len() && layers.iter().zip(&stored).all(|(layer, own)| layer == own) => {
            let blocks = 0..stored.len();
            let of_block = |block| layers.iter().skip(block).step_by(stored.len()).copied().collect::<Vec<u64>>();
            blocks.map(|block| one(&numbers, &of_block(block))).collect()
        }
        Some(_) => Vec::new(),
    };
    held.stored.into_iter().flat_map(of_numbers).collect()
}

/// A name of the table with numbers.
fn filled(name: &str, numbers: &[u64], star: u64) -> String {
    let mut numbers = numbers.iter();
    let parts = name.split('.').map(|part| match part {
        "#" => numbers.next().map_or_else(String::new, u64::to_string),
        "*" => star.to_string(),
        _ => part.to_owned(),
    });
    parts.collect::<Vec<_>>().join(".")
}
