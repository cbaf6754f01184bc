//! The sets of a base: those of its class, the pair of its family, and the names that share a storage.

use std::collections::HashMap;

use super::said::{is_tied, is_written_untied};
use super::set::TiedSet;
use super::sides::{Sides, sides};
use super::{repeated, storage, table};
use crate::base::names::Names;
use crate::inventory::BaseInventory;

/// The sets that the base may have, each with whether it is one, before any value is known.
pub(super) fn sets(base: &BaseInventory, names: &Names<'_>, asked: Option<bool>) -> Vec<TiedSet> {
    let pair = sides(&base.config, |name| names.has(name));
    let mut found = of_class(base, names, pair);
    if let Some((input, output)) = pair
        && !found.iter().any(|set| set.all().any(|name| name == input))
    {
        let names = vec![input.to_owned(), output.to_owned()];
        found.push(set(names, vec![output.to_owned()], input.to_owned(), false));
    }
    let said = is_tied(&base.config);
    for set in &mut found {
        set.tied = if set.always { Some(true) } else { said };
    }
    if asked != Some(false) && !is_written_untied(&base.config) {
        join(&mut found, storage::groups(&base.shards));
    }
    found
}

/// The sets of the class, under the names that the files have for them.
fn of_class(base: &BaseInventory, names: &Names<'_>, pair: Option<Sides>) -> Vec<TiedSet> {
    let Some(class) = table::of(&base.config) else { return Vec::new() };
    let in_files = |module: &String| -> String {
        let stored = if names.has(module) { Some(module.clone()) } else { names.renamed(module) };
        // A name that is not stored goes by what the files of its family call it.
        let usual = || pair.map(|(_, output)| output).filter(|output| names.module(output) == *module);
        stored.or_else(|| usual().map(str::to_owned)).unwrap_or_else(|| module.clone())
    };
    let sets = class.sets.iter().filter_map(|written| {
        let all: Vec<String> = written.names.iter().map(in_files).collect();
        let leader = all.iter().find(|name| names.has(name))?.clone();
        Some(set(all, written.outputs.iter().map(in_files).collect(), leader, written.always))
    });
    let repeated = repeated::sets(&class.repeated, names).into_iter().filter_map(|found| {
        let order: Vec<String> = found.names.iter().map(in_files).collect();
        let source = order.get(found.source)?.clone();
        let all: Vec<String> =
            std::iter::once(&source).chain(order.iter().filter(|name| **name != source)).cloned().collect();
        let leader = all.iter().find(|name| names.has(name))?.clone();
        Some(TiedSet { repeated: order, ..set(all, Vec::new(), leader, found.always) })
    });
    sets.chain(repeated).collect()
}

fn set(names: Vec<String>, outputs: Vec<String>, leader: String, always: bool) -> TiedSet {
    let (repeated, differing) = (Vec::new(), Vec::new());
    TiedSet { names, leader, outputs, tied: None, always, repeated, differing, uncompared: None }
}

/// Names of one storage are one parameter: those of a set, if it is in force, together with the rest of it.
fn join(sets: &mut Vec<TiedSet>, groups: Vec<Vec<&str>>) {
    let of_class: HashMap<String, usize> =
        sets.iter().enumerate().flat_map(|(at, set)| set.names.iter().map(move |name| (name.clone(), at))).collect();
    for group in groups {
        let mut names: Vec<String> = group.iter().map(|name| (*name).to_owned()).collect();
        match group.iter().find_map(|name| of_class.get(*name)) {
            Some(at) if sets[*at].tied == Some(true) => {
                sets[*at].names.extend(names.into_iter().filter(|name| !of_class.contains_key(name)));
            }
            Some(at) => {
                // Of a class that does not tie by itself only the names that share a storage are one.
                let set = &mut sets[*at];
                names.sort_by_key(|name| set.names.iter().position(|own| own == name).unwrap_or(usize::MAX));
                (set.leader, set.names, set.tied) = (names[0].clone(), names, Some(true));
            }
            None => {
                let leader = names[0].clone();
                sets.push(TiedSet { tied: Some(true), ..set(names, Vec::new(), leader, false) });
            }
        }
    }
}
