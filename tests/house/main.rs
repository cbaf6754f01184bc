//! No two files of a crate need each other: a file can be read after those that it names, and moved with them.
//!
//! A file depends on another one if its code names an item that the other one defines, in a `use` or in any other path.
//! `mod child;` alone is no dependency, and code that only tests compile (`#[cfg(test)]`) does not count. Files that reach
//! each other form a cycle.
//!
//! A re-export is read in two ways, and neither may give a cycle. It is another name of the item, so it leads to the file
//! that defines the item. It is also a part of the file in which it stands, so code that takes an item from a folder's
//! `mod.rs` needs that file and all that it needs ([`resolve::Reexport`]). A file below a folder therefore imports what it
//! shares with its neighbours from the files that define it.
//!
//! `SHARDFUSE_CYCLES=coordinator cargo test --test house -- --nocapture` prints the cycles of the crates whose root's path
//! begins with `coordinator`, with a line of code for each dependency in them.

mod cycles;
mod names;
mod planted;
mod resolve;
mod tree;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use cycles::Dependency;
use resolve::Reexport;
use tree::Crate;

#[test]
fn no_file_is_in_a_cycle() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &Path| read(&top.join(file));
    let chosen = std::env::var("SHARDFUSE_CYCLES").ok();
    let mut found = BTreeMap::new();
    for root in roots(top) {
        let it = Crate::read(&root, &read);
        for reexport in [Reexport::Name, Reexport::Part] {
            let dependencies = resolve::dependencies(&it, reexport);
            let cycles = cycles::cycles(&dependencies);
            if chosen.as_ref().is_some_and(|chosen| root.starts_with(chosen)) {
                print(&root, reexport, &cycles, &dependencies);
            }
            for file in cycles.into_iter().flatten() {
                found.insert(file, root.clone());
            }
        }
    }
    assert!(found.is_empty(), "files in a cycle (SHARDFUSE_CYCLES, see the top of tests/house/main.rs): {found:#?}");
}

fn print(root: &Path, reexport: Reexport, cycles: &[BTreeSet<PathBuf>], dependencies: &BTreeSet<Dependency>) {
    let files = cycles.iter().flatten().count();
    println!("{}: {files} files in {} cycles, a re-export as a {reexport:?}", root.display(), cycles.len());
    for cycle in cycles {
        println!("  a cycle of {}", cycle.len());
        for Dependency { from, to, line, path } in dependencies {
            if cycle.contains(from) && cycle.contains(to) {
                println!("    {} -> {}: line {line}: {path}", from.display(), to.display());
            }
        }
    }
}

/// Every `lib.rs` and `main.rs` of the repository: each is the root of a crate.
fn roots(top: &Path) -> Vec<PathBuf> {
    let mut roots = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in top.join(&folder).read_dir().expect("a folder").flatten() {
            let name = folder.join(entry.file_name());
            let shown = entry.file_name();
            let shown = shown.to_string_lossy();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if shown != "target" && !shown.starts_with('.') {
                    folders.push(name);
                }
            } else if shown == "lib.rs" || shown == "main.rs" {
                roots.push(name);
            }
        }
    }
    roots.sort();
    roots
}

#[allow(clippy::disallowed_methods, reason = "reads the sources of this repository")]
fn read(file: &Path) -> Option<String> {
    std::fs::read_to_string(file).ok()
}
