//! The check itself, over small crates in which cycles were planted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::resolve::Reexport;
use crate::tree::Crate;
use crate::{cycles, resolve};

/// The cycles of a crate with these files, each as its files' names.
fn cycles_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    read(files, Reexport::Name)
}

/// As [`cycles_of`], with a re-export as a part of its file.
fn cycles_through(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    read(files, Reexport::Part)
}

fn read(files: &[(&str, &str)], reexport: Reexport) -> Vec<Vec<String>> {
    let read = |file: &Path| files.iter().find(|(name, _)| Path::new(name) == file).map(|(_, text)| (*text).to_owned());
    let dependencies = resolve::dependencies(&Crate::read(Path::new("lib.rs"), &read), reexport);
    let shown = |cycle: BTreeSet<PathBuf>| cycle.iter().map(|file| file.display().to_string()).collect();
    cycles::cycles(&dependencies).into_iter().map(shown).collect()
}

#[test]
fn two_files_that_import_each_other_are_a_cycle() {
    let one = ("one.rs", "use crate::two::Two; pub struct One(Two);");
    let two = ("two.rs", "pub struct Two; fn back(_: crate::one::One) {}");
    assert_eq!(cycles_of(&[("lib.rs", "mod one; mod two;"), one, two]), [["one.rs", "two.rs"]]);
}

#[test]
fn a_longer_way_round_is_a_cycle_and_a_file_that_only_leads_to_it_is_not_in_it() {
    let files = [
        ("lib.rs", "mod a; mod b; mod c; mod outside; use outside::Outside;"),
        ("a.rs", "use crate::b::B; pub struct A;"),
        ("b.rs", "use crate::c::C; pub struct B;"),
        ("c.rs", "use crate::a::A; pub struct C;"),
        ("outside.rs", "use crate::a::A; pub struct Outside;"),
    ];
    assert_eq!(cycles_of(&files), [["a.rs", "b.rs", "c.rs"]]);
}

#[test]
fn a_child_that_uses_what_its_parent_defines_is_a_cycle_if_the_parent_uses_the_child() {
    let child = ("folder/child.rs", "pub fn child() { super::parent() }");
    let with = |parent| cycles_of(&[("lib.rs", "mod folder;"), ("folder/mod.rs", parent), child]);
    assert_eq!(with("mod child; pub use child::child; pub fn parent() {}"), [["folder/child.rs", "folder/mod.rs"]]);
    assert!(with("mod child; pub fn parent() {}").is_empty(), "`mod` alone is no dependency");
}

#[test]
fn a_reexport_leads_to_the_file_that_defines_the_item() {
    let files = [
        ("lib.rs", "mod error; mod reader; pub use error::Error; pub use reader::read;"),
        ("error.rs", "pub struct Error;"),
        ("reader.rs", "use crate::Error; pub fn read() -> Error { crate::Error }"),
    ];
    assert!(cycles_of(&files).is_empty());
    let through = ("error.rs", "pub struct Error; fn again() { crate::read(); }");
    assert_eq!(cycles_of(&[files[0], through, files[2]]), [["error.rs", "reader.rs"]]);
}

#[test]
fn an_item_taken_from_a_folder_needs_what_the_folders_file_needs() {
    let folder = "mod one; mod two; pub use one::One; fn call() { two::two() }";
    let with = |two| {
        let one = ("folder/one.rs", "pub struct One;");
        cycles_through(&[("lib.rs", "mod folder;"), ("folder/mod.rs", folder), one, ("folder/two.rs", two)])
    };
    let cycle = [["folder/mod.rs", "folder/two.rs"]];
    assert_eq!(with("use super::One; pub fn two() {}"), cycle);
    assert_eq!(with("pub fn two() { crate::folder::One; }"), cycle);
    assert_eq!(with("use super::*; pub fn two() { One; }"), cycle);
    assert!(with("use super::one::One; pub fn two() {}").is_empty(), "from the file that defines it");
}

#[test]
fn a_folders_file_that_only_reexports_needs_nothing() {
    let files = [
        ("lib.rs", "mod folder; pub use folder::Two;"),
        ("folder/mod.rs", "mod one; mod two; pub use one::One; pub(crate) use two::Two;"),
        ("folder/one.rs", "pub struct One;"),
        ("folder/two.rs", "use super::One; pub struct Two(One, crate::Two);"),
    ];
    assert!(cycles_through(&files).is_empty());
}

#[test]
fn imports_by_star_and_by_another_name_are_followed() {
    let lib = ("lib.rs", "mod one; mod two;");
    let two = ("two.rs", "use crate::one::One; pub fn two(_: One) {}");
    let star = ("one.rs", "use crate::two::*; pub struct One; fn call() { two(One) }");
    assert_eq!(cycles_of(&[lib, star, two]), [["one.rs", "two.rs"]]);
    let renamed = ("one.rs", "use crate::two as other; pub struct One; fn call() { other::two(One) }");
    assert_eq!(cycles_of(&[lib, renamed, two]), [["one.rs", "two.rs"]]);
    let module_alone = ("one.rs", "use crate::two; pub struct One;");
    assert!(cycles_of(&[lib, module_alone, two]).is_empty(), "nothing of the module is named");
}

#[test]
fn what_stands_in_macros_and_attributes_counts() {
    let lib = ("lib.rs", "mod one; mod two;");
    let two = ("two.rs", "use crate::one::One; pub fn two(_: One) {}");
    let within = ("one.rs", r#"pub struct One; fn call() { println!("{:?}", [crate::two::two(One)]) }"#);
    assert_eq!(cycles_of(&[lib, within, two]), [["one.rs", "two.rs"]]);
    let attribute = ("one.rs", r#"#[serde(default = "crate::two::two")] pub struct One;"#);
    assert_eq!(cycles_of(&[lib, attribute, two]), [["one.rs", "two.rs"]]);
    let above =
        [("lib.rs", "macro_rules! made { () => {} } mod one; use one::One;"), ("one.rs", "pub struct One; made!();")];
    assert_eq!(cycles_of(&above), [["lib.rs", "one.rs"]]);
}

#[test]
fn code_for_tests_does_not_count() {
    let lib = ("lib.rs", "mod one; mod two;");
    let two = ("two.rs", "use crate::one::One; pub fn two(_: One) {}");
    for one in [
        "pub struct One; #[cfg(test)] mod tests { use crate::two::two; }",
        "pub struct One; #[cfg(all(test, unix))] use crate::two::two;",
        "pub struct One; impl One { #[cfg(test)] fn call() { crate::two::two(One) } }",
        "pub struct One; #[cfg(test)] mod absent;",
    ] {
        assert!(cycles_of(&[lib, ("one.rs", one), two]).is_empty(), "{one}");
    }
    let feature = ("one.rs", "pub struct One; #[cfg(any(test, feature = \"f\"))] use crate::two::two;");
    assert_eq!(cycles_of(&[lib, feature, two]), [["one.rs", "two.rs"]]);
}
