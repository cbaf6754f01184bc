//! The modules of a crate, with what each defines, imports and names.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta};

use crate::names::{Import, Mention, Names, for_tests_only};

/// A crate as its sources say it. Module 0 is the root.
pub struct Crate {
    pub modules: Vec<Module>,
}

/// A module, in a file of its own or within one.
pub struct Module {
    pub file: PathBuf,
    /// None for the root.
    pub parent: Option<usize>,
    pub children: BTreeMap<String, usize>,
    /// Everything else that it defines, by name.
    pub items: BTreeSet<String>,
    pub imports: Vec<Import>,
    pub mentions: Vec<Mention>,
}

/// A module while it is read.
struct Place {
    module: usize,
    file: PathBuf,
    /// Where the files of its child modules are.
    folder: PathBuf,
    /// Whether it is a file: `#[path]` starts at the file's folder there.
    whole: bool,
}

type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

impl Crate {
    /// Reads a crate from its root on.
    pub fn read(root: &Path, read: Read<'_>) -> Crate {
        let mut it = Crate { modules: Vec::new() };
        let module = it.add(root.to_owned(), None);
        let folder = root.parent().unwrap_or(Path::new("")).to_owned();
        it.file(Place { module, file: root.to_owned(), folder, whole: true }, read);
        it
    }

    fn add(&mut self, file: PathBuf, parent: Option<usize>) -> usize {
        self.modules.push(Module {
            file,
            parent,
            children: BTreeMap::new(),
            items: BTreeSet::new(),
            imports: Vec::new(),
            mentions: Vec::new(),
        });
        self.modules.len() - 1
    }

    fn file(&mut self, place: Place, read: Read<'_>) {
        let text = read(&place.file).unwrap_or_else(|| panic!("{} is missing", place.file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", place.file.display()));
        if !for_tests_only(&parsed.attrs) {
            self.items(&place, &parsed.items, read);
        }
    }

    fn items(&mut self, place: &Place, items: &[Item], read: Read<'_>) {
        for item in items {
            if let Item::Mod(item) = item {
                if !for_tests_only(&item.attrs) {
                    self.module(place, item, read);
                }
                continue;
            }
            let names = Names::of(item);
            let module = &mut self.modules[place.module];
            module.items.extend(names.defines);
            module.imports.extend(names.imports);
            module.mentions.extend(names.mentions);
        }
    }

    fn module(&mut self, place: &Place, item: &syn::ItemMod, read: Read<'_>) {
        let name = item.ident.to_string();
        let folder = place.folder.join(&name);
        if let Some((_, items)) = &item.content {
            let module = self.child(place, name, place.file.clone());
            self.items(&Place { module, file: place.file.clone(), folder, whole: false }, items, read);
            return;
        }
        let given = item.attrs.iter().find_map(path_of).map(|given| {
            let from = if place.whole { place.file.parent().unwrap_or(Path::new("")) } else { &place.folder };
            normal(&from.join(given))
        });
        let beside = place.folder.join(format!("{name}.rs"));
        let (file, folder) = match given {
            Some(file) => {
                let folder = file.parent().unwrap_or(Path::new("")).to_owned();
                (file, folder)
            }
            None if read(&beside).is_some() => (beside, folder),
            None => (folder.join("mod.rs"), folder),
        };
        let module = self.child(place, name, file.clone());
        self.file(Place { module, file, folder, whole: true }, read);
    }

    fn child(&mut self, place: &Place, name: String, file: PathBuf) -> usize {
        let module = self.add(file, Some(place.module));
        self.modules[place.module].children.insert(name, module);
        module
    }
}

fn path_of(attribute: &Attribute) -> Option<String> {
    match &attribute.meta {
        Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
            Expr::Lit(ExprLit { lit: Lit::Str(text), .. }) => Some(text.value()),
            _ => None,
        },
        _ => None,
    }
}

/// Without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}
