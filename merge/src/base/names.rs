//! The names that an adapter's edits may have.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::modules::Rule;

/// The parameters of a base as an adapter sees them: those that are stored, and the other names of those that are tied.
#[derive(Debug)]
pub struct Names<'a> {
    sorted: Vec<&'a str>,
    tied: Vec<&'a str>,
    rules: &'a [Rule],
    /// Stored names by those that transformers gives the modules, where they differ. Made when it is first asked for.
    renamed: OnceCell<BTreeMap<String, &'a str>>,
}

impl<'a> Names<'a> {
    /// `tied` are names that are one parameter with others. They need not be stored. `rules` rename stored names to those of
    /// modules.
    pub fn new(
        names: impl Iterator<Item = &'a str>,
        tied: impl Iterator<Item = &'a str>,
        rules: &'a [Rule],
    ) -> Names<'a> {
        let mut sorted: Vec<&str> = names.collect();
        sorted.sort_unstable();
        let mut tied: Vec<&str> = tied.collect();
        tied.sort_unstable();
        Names { sorted, tied, rules, renamed: OnceCell::new() }
    }

    /// Whether the base has this parameter.
    pub fn has(&self, name: &str) -> bool {
        self.is_tied(name) || self.sorted.binary_search(&name).is_ok()
    }

    /// The name that transformers gives it in its modules.
    pub fn module(&self, name: &str) -> String {
        rename(self.rules.iter(), name)
    }

    /// The stored parameter that transformers knows by this name, or the one that it loads from a file of this name.
    pub fn renamed(&self, name: &str) -> Option<String> {
        if self.rules.is_empty() {
            return None;
        }
        let stored = self.by_module().get(name).map(|stored| (*stored).to_owned());
        // The other way round: the adapter is of the checkpoint's age, and the base was saved under the names of modules.
        stored.or_else(|| Some(self.module(name)).filter(|name| self.has(name)))
    }

    /// Whether it has a parameter of this module, or below it, by a stored name or by transformers' own.
    pub fn has_module(&self, path: &str) -> bool {
        let below = format!("{path}.");
        let has = |names: &[&str]| {
            let at = names.partition_point(|name| *name < below.as_str());
            names.get(at).is_some_and(|name| name.starts_with(&below))
        };
        let stored = has(&self.sorted) || has(&self.tied);
        let first =
            |names: &BTreeMap<String, _>| names.range(below.clone()..).next().is_some_and(|n| n.0.starts_with(&below));
        stored || (!self.rules.is_empty() && first(self.by_module()))
    }

    fn by_module(&self) -> &BTreeMap<String, &'a str> {
        self.renamed.get_or_init(|| {
            let rules: Vec<&Rule> = self.rules.iter().filter(|rule| rule.acts(self.sorted.iter().copied())).collect();
            let all = self.sorted.iter().chain(&self.tied);
            let renamed = all.map(|name| (rename(rules.iter().copied(), name), *name));
            renamed.filter(|(module, stored)| module != stored).collect()
        })
    }

    /// The names of the stored parameters, sorted.
    pub fn all(&self) -> &[&'a str] {
        &self.sorted
    }

    /// Whether it is one parameter with other names.
    pub fn is_tied(&self, name: &str) -> bool {
        self.tied.binary_search(&name).is_ok()
    }
}

/// A name after all rules, in their order.
fn rename<'r>(rules: impl Iterator<Item = &'r Rule>, name: &str) -> String {
    rules.fold(name.to_owned(), |name, rule| rule.apply(&name).unwrap_or(name))
}
