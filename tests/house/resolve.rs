//! From the paths that a crate's modules name to the files that define what they name.

use std::collections::BTreeSet;
use std::path::Path;

use crate::cycles::Dependency;
use crate::names::Kind;
use crate::tree::Crate;

/// What a re-export is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reexport {
    /// Another name of the item: who takes it there depends on the file that defines it. The file with the re-export
    /// depends on that file, too.
    Name,
    /// A part of its file: who takes the item there depends on that file as well. The re-export by itself is no dependency,
    /// and the root of a crate is no file in this sense.
    Part,
}

/// Which file of a crate names an item of which other one.
pub fn dependencies(it: &Crate, reexport: Reexport) -> BTreeSet<Dependency> {
    let mut found = BTreeSet::new();
    for (module, from) in it.modules.iter().enumerate() {
        let mut seen = BTreeSet::new();
        let counts = |kind| kind != Kind::Reexport || reexport == Reexport::Name;
        let mentions = from.mentions.iter().filter(|mention| counts(mention.kind));
        for mention in mentions.filter(|mention| seen.insert((&mention.path, mention.kind))) {
            let Found { mut files, through, .. } = resolve(it, module, &mention.path, &mut BTreeSet::new());
            if mention.kind == Kind::Macro && files.is_empty() {
                files.extend(macro_above(it, module, &mention.path));
            }
            if reexport == Reexport::Part {
                files.extend(through);
            }
            for to in files.into_iter().filter(|to| *to != from.file) {
                found.insert(Dependency {
                    from: from.file.clone(),
                    to: to.to_owned(),
                    line: mention.line,
                    path: mention.path.join("::"),
                });
            }
        }
    }
    found
}

/// What a name or a path leads to: a module, items in files, or nothing of this crate.
#[derive(Default)]
struct Found<'a> {
    module: Option<usize>,
    files: BTreeSet<&'a Path>,
    /// The files in which the path meets a re-export.
    through: BTreeSet<&'a Path>,
}

/// The module and name of each look-up under way, since imports may go round.
type Under = BTreeSet<(usize, String)>;

fn resolve<'a>(it: &'a Crate, from: usize, path: &[String], under: &mut Under) -> Found<'a> {
    let mut at = Some(from);
    let mut rest = path;
    while let Some((first, others)) = rest.split_first() {
        at = match (first.as_str(), at) {
            ("crate", _) => Some(0),
            ("self", at) => at,
            ("super", Some(module)) => it.modules[module].parent,
            _ => break,
        };
        rest = others;
    }
    let relative = rest.len() == path.len();
    let mut through = BTreeSet::new();
    for (place, name) in rest.iter().enumerate() {
        let Some(module) = at else { return Found::default() };
        let mut found = look_up(it, module, name, under);
        through.append(&mut found.through);
        if place + 1 == rest.len() || found.module.is_none() {
            if found.module.is_none() && found.files.is_empty() && !(relative && place == 0) {
                // Made by a macro, or from elsewhere by `*`: as far as the path can be followed.
                return Found { module: None, files: BTreeSet::from([it.modules[module].file.as_path()]), through };
            }
            return Found { through, ..found };
        }
        at = found.module;
    }
    Found { module: at, files: BTreeSet::new(), through }
}

fn look_up<'a>(it: &'a Crate, at: usize, name: &str, under: &mut Under) -> Found<'a> {
    let mut found = Found::default();
    if !under.insert((at, name.to_owned())) {
        return found;
    }
    let module = &it.modules[at];
    found.module = module.children.get(name).copied();
    if module.items.contains(name) {
        found.files.insert(&module.file);
    }
    for import in module.imports.iter().filter(|import| import.name.as_deref() == Some(name)) {
        found.add(resolve(it, at, &import.path, under));
    }
    if found.module.is_none() && found.files.is_empty() {
        for import in module.imports.iter().filter(|import| import.name.is_none()) {
            if let Some(module) = resolve(it, at, &import.path, under).module {
                found.add(look_up(it, module, name, under));
            }
        }
    }
    let defined_here = module.items.contains(name) || module.children.contains_key(name);
    if at != 0 && !defined_here && !(found.files.is_empty() && found.module.is_none()) {
        found.through.insert(&module.file);
    }
    under.remove(&(at, name.to_owned()));
    found
}

impl<'a> Found<'a> {
    fn add(&mut self, other: Found<'a>) {
        self.module = self.module.or(other.module);
        self.files.extend(other.files);
        self.through.extend(other.through);
    }
}

/// `macro_rules!` of a module is in scope in the modules below.
fn macro_above<'a>(it: &'a Crate, module: usize, path: &[String]) -> Option<&'a Path> {
    let [name] = path else { return None };
    std::iter::successors(Some(module), |module| it.modules[*module].parent)
        .find(|module| it.modules[*module].items.contains(name))
        .map(|module| it.modules[module].file.as_path())
}
