//! Cycles in a graph of files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// A file names an item of another one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Dependency {
    pub from: PathBuf,
    pub to: PathBuf,
    pub line: usize,
    pub path: String,
}

/// The sets of files in which each reaches each other one.
pub fn cycles(dependencies: &BTreeSet<Dependency>) -> Vec<BTreeSet<PathBuf>> {
    let mut next: BTreeMap<&Path, BTreeSet<&Path>> = BTreeMap::new();
    for Dependency { from, to, .. } in dependencies {
        next.entry(from).or_default().insert(to);
    }
    let reached: BTreeMap<&Path, BTreeSet<&Path>> = next.keys().map(|file| (*file, reach(&next, file))).collect();
    let reaches = |from: &Path, to: &Path| reached.get(from).is_some_and(|reached| reached.contains(to));
    let mut cycles: Vec<BTreeSet<PathBuf>> = Vec::new();
    for (file, reached) in &reached {
        if reached.contains(file) && !cycles.iter().any(|cycle| cycle.contains(*file)) {
            cycles.push(reached.iter().filter(|other| reaches(other, file)).map(|other| other.to_path_buf()).collect());
        }
    }
    cycles
}

fn reach<'a>(next: &BTreeMap<&'a Path, BTreeSet<&'a Path>>, from: &'a Path) -> BTreeSet<&'a Path> {
    let mut reached = BTreeSet::new();
    let mut left = vec![from];
    while let Some(file) = left.pop() {
        for to in next.get(file).into_iter().flatten() {
            if reached.insert(*to) {
                left.push(to);
            }
        }
    }
    reached
}
