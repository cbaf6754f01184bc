//! What an item defines, imports and names.

use proc_macro2::{TokenStream, TokenTree};
use syn::punctuated::Punctuated;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItem, Item, Lit, Macro, Meta, Path, Token, UseTree, Visibility};

/// A path in the code.
#[derive(Clone, Debug)]
pub struct Mention {
    pub path: Vec<String>,
    pub line: usize,
    pub kind: Kind,
}

/// Where a path stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// In code, or in a private `use`.
    Code,
    /// It calls a macro: those of the modules above are in scope too.
    Macro,
    /// In a `pub use`, with whatever visibility.
    Reexport,
}

/// A `use`.
#[derive(Clone, Debug)]
pub struct Import {
    pub path: Vec<String>,
    /// The name that it brings into scope; none with `*`.
    pub name: Option<String>,
}

/// What an item defines, imports and names.
#[derive(Default)]
pub struct Names {
    pub defines: Option<String>,
    pub imports: Vec<Import>,
    pub mentions: Vec<Mention>,
}

impl Names {
    /// Those of an item that is no module.
    pub fn of(item: &Item) -> Names {
        let mut names = Names::default();
        if !for_tests_only(attributes(item)) {
            names.defines = defined(item);
            names.visit_item(item);
        }
        names
    }

    fn mention(&mut self, path: Vec<String>, line: usize, kind: Kind) {
        self.mentions.push(Mention { path, line, kind });
    }

    fn import(&mut self, before: &[String], tree: &UseTree, kind: Kind) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (path, name, ident) = match tree {
            UseTree::Path(tree) => return self.import(&with(&tree.ident), &tree.tree, kind),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(before, tree, kind)),
            UseTree::Glob(_) => {
                self.imports.push(Import { path: before.to_vec(), name: None });
                return;
            }
            UseTree::Name(tree) if tree.ident == "self" => (before.to_vec(), before.last().cloned(), &tree.ident),
            UseTree::Name(tree) => (with(&tree.ident), Some(tree.ident.to_string()), &tree.ident),
            UseTree::Rename(tree) if tree.ident == "self" => {
                (before.to_vec(), Some(tree.rename.to_string()), &tree.ident)
            }
            UseTree::Rename(tree) => (with(&tree.ident), Some(tree.rename.to_string()), &tree.ident),
        };
        self.mention(path.clone(), ident.span().start().line, kind);
        self.imports.push(Import { path, name });
    }

    /// Macros take tokens, so every `a::b` in them counts as a path.
    fn tokens(&mut self, tokens: TokenStream) {
        let mut path: Vec<String> = Vec::new();
        let mut line = 0;
        // How many colons, or another sign, stood since the last name.
        let mut colons = 0;
        let mut field = false;
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path, line);
                        line = ident.span().start().line;
                    }
                    if !field {
                        path.push(ident.to_string());
                    }
                    (colons, field) = (0, false);
                }
                TokenTree::Punct(sign) if sign.as_char() == ':' => colons += 1,
                other => {
                    self.end(&mut path, line);
                    colons = 0;
                    field = matches!(&other, TokenTree::Punct(sign) if sign.as_char() == '.');
                    if let TokenTree::Group(group) = other {
                        self.tokens(group.stream());
                    }
                }
            }
        }
        self.end(&mut path, line);
    }

    fn end(&mut self, path: &mut Vec<String>, line: usize) {
        if !path.is_empty() {
            self.mention(std::mem::take(path), line, Kind::Code);
        }
    }
}

impl<'ast> Visit<'ast> for Names {
    fn visit_item(&mut self, item: &'ast Item) {
        if for_tests_only(attributes(item)) {
            return;
        }
        match item {
            Item::Use(item) if item.leading_colon.is_none() => {
                let kind = if matches!(item.vis, Visibility::Inherited) { Kind::Code } else { Kind::Reexport };
                self.import(&[], &item.tree, kind);
            }
            _ => visit::visit_item(self, item),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Fn(item) => &item.attrs[..],
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => &[],
        };
        if !for_tests_only(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none()
            && let Some(first) = path.segments.first()
        {
            let segments = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.mention(segments, first.ident.span().start().line, Kind::Code);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        if let Some(first) = call.path.segments.first() {
            let segments = call.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
            self.mention(segments, first.ident.span().start().line, Kind::Macro);
        }
        self.tokens(call.tokens.clone());
    }

    /// serde and others take paths as text.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        let Meta::List(list) = &attribute.meta else { return };
        for token in list.tokens.clone() {
            if let TokenTree::Literal(literal) = token
                && let Lit::Str(text) = Lit::new(literal)
                && let Ok(path) = text.parse::<Path>()
            {
                self.visit_path(&path);
            }
        }
    }

    /// `pub(in path)` needs nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn defined(item: &Item) -> Option<String> {
    let ident = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(ident.to_string())
}

/// Whether code is compiled for tests alone: `cfg(test)`, also as one of several conditions that must all hold.
pub fn for_tests_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg") && attribute.parse_args::<Meta>().is_ok_and(|condition| needs_test(&condition))
    })
}

fn needs_test(condition: &Meta) -> bool {
    match condition {
        Meta::Path(path) => path.is_ident("test"),
        Meta::List(list) if list.path.is_ident("all") => list
            .parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated)
            .is_ok_and(|all| all.iter().any(needs_test)),
        _ => false,
    }
}
