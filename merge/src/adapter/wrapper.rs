//! Names that training wrappers put into an adapter's keys.
//!
//! A model that is trained inside a wrapper has the wrapper's attribute in the path of every module: `_orig_mod` for
//! torch.compile, `module` for DistributedDataParallel, `base_model.model` for a second PEFT model, or the attribute of a
//! user's own class around it. Such a name is left out if the path does not fit the base with it and fits without it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::rename::candidates;
use crate::base::names::Names;

/// Components that only wrappers put into a path, and what puts them there.
const WRAPPERS: [(&str, &str); 4] = [
    ("_orig_mod", "torch.compile"),
    ("module", "DataParallel, DistributedDataParallel or DeepSpeed"),
    ("_fsdp_wrapped_module", "FSDP"),
    ("_checkpoint_wrapped_module", "activation checkpointing"),
];
/// Where PEFT's own model begins.
const PEFT: &str = "base_model.model.";

/// Leaves the names of wrappers out of module paths, and remembers which.
#[derive(Debug)]
pub(super) struct Unwrap<'a, 'n> {
    base: &'a Names<'n>,
    /// The attribute of a class around the model, which every path begins with.
    attribute: Option<String>,
    /// What was left out.
    found: BTreeSet<String>,
}

impl<'a, 'n> Unwrap<'a, 'n> {
    /// For an adapter with these module paths.
    pub(super) fn of<'k>(modules: impl Iterator<Item = &'k str> + Clone, base: &'a Names<'n>) -> Self {
        Unwrap { base, attribute: attribute(modules, base), found: BTreeSet::new() }
    }

    /// The path as the base may know it.
    pub(super) fn path<'k>(&mut self, module: Cow<'k, str>) -> Cow<'k, str> {
        let unwrapped = inner(&module);
        let (inner, names) = unwrapped.as_ref().map_or((&*module, &[][..]), |(path, names)| (path, names));
        if !names.is_empty() && !fits(&module, self.base) && fits(inner, self.base) {
            self.found.extend(names.iter().cloned());
            return inner.to_owned().into();
        }
        let attribute = self.attribute.as_deref();
        match attribute.and_then(|name| inner.strip_prefix(name)?.strip_prefix('.')) {
            Some(rest) => {
                self.found.extend(names.iter().cloned());
                self.found.extend(attribute.map(|name| format!("{name} (an attribute around the model)")));
                rest.to_owned().into()
            }
            None => module,
        }
    }

    /// What is said of it.
    pub(super) fn warning(self) -> Option<String> {
        let found: Vec<String> = self.found.into_iter().collect();
        let text = || format!("its keys carry names of wrappers, which are left out: {}", found.join(", "));
        (!found.is_empty()).then(text)
    }
}

/// A path without known wrappers.
pub(super) fn bare(module: &str) -> String {
    inner(module).map_or_else(|| module.to_owned(), |(path, _)| path)
}

/// A path without known wrappers, and what they are; `None` if it has none.
fn inner(module: &str) -> Option<(String, Vec<String>)> {
    if !module.split('.').any(|c| is_wrapper(c) || c == "base_model") {
        return None;
    }
    let mut names = Vec::new();
    let path = match module.rfind(PEFT).filter(|at| *at == 0 || module[..*at].ends_with('.')) {
        Some(at) => {
            let outer = module[..at].split('.').filter(|c| !is_wrapper(c) && !PEFT.split('.').any(|own| own == *c));
            names.extend(outer.map(|c| format!("{c} (an attribute around the model)")));
            names.extend(module[..at].split('.').filter_map(describe));
            if module[..at].contains(PEFT) || at == 0 {
                names.push("base_model.model (a PEFT model in a PEFT model)".to_owned());
            }
            &module[at + PEFT.len()..]
        }
        None => module,
    };
    names.extend(path.split('.').filter_map(describe));
    let kept: Vec<&str> = path.split('.').filter(|c| !is_wrapper(c)).collect();
    let changed = kept.len() != module.split('.').count();
    if changed && names.is_empty() {
        names.push("base_model.model (a PEFT model)".to_owned());
    }
    Some((kept.join("."), names))
}

fn is_wrapper(component: &str) -> bool {
    WRAPPERS.iter().any(|(name, _)| *name == component)
}

fn describe(component: &str) -> Option<String> {
    let (name, by) = WRAPPERS.iter().find(|(name, _)| *name == component)?;
    Some(format!("{name} ({by})"))
}

/// The first component of all paths, if no path fits the base with it and every path does without it.
fn attribute<'k>(modules: impl Iterator<Item = &'k str> + Clone, base: &Names<'_>) -> Option<String> {
    let first = bare(modules.clone().next()?);
    let (name, rest) = first.split_once('.')?;
    if fits(&first, base) || !fits(rest, base) {
        return None;
    }
    let every = modules.map(bare).all(|path| match path.strip_prefix(name) {
        Some(rest) => rest.strip_prefix('.').is_some_and(|rest| !fits(&path, base) && fits(rest, base)),
        None => false,
    });
    every.then(|| name.to_owned())
}

/// Whether the base has a module of this path, by any of its names.
fn fits(module: &str, base: &Names<'_>) -> bool {
    candidates(module).any(|path| base.has_module(&path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::modules::ModelClass;

    const BASE: [&str; 3] = ["model.layers.0.module.q.weight", "model.layers.0.q.weight", "model.layers.1.q.weight"];

    fn unwrapped(modules: &[&str]) -> (Vec<String>, Option<String>) {
        let class = ModelClass::default();
        let base = Names::new(BASE.into_iter().map(|name| (name, &[][..])), std::iter::empty(), &class);
        let mut unwrap = Unwrap::of(modules.iter().copied(), &base);
        let paths = modules.iter().map(|module| unwrap.path((*module).into()).into_owned()).collect();
        (paths, unwrap.warning())
    }

    #[test]
    fn wrappers_are_left_out_wherever_they_stand_and_named() {
        for (wrapped, name) in [
            ("_orig_mod.base_model.model.model.layers.1.q", "_orig_mod (torch.compile)"),
            ("model._orig_mod.layers.1.q", "_orig_mod (torch.compile)"),
            ("module.base_model.model.model.layers.1.q", "module (DataParallel"),
            ("model.layers.1._checkpoint_wrapped_module._fsdp_wrapped_module.q", "_fsdp_wrapped_module (FSDP)"),
            ("base_model.model.model.layers.1.q", "base_model.model (a PEFT model in a PEFT model)"),
            ("encoder.base_model.model.model.layers.1.q", "encoder (an attribute around the model)"),
            ("e.base_model.model.model.layers.1.q", "e (an attribute around the model)"),
        ] {
            let (paths, warning) = unwrapped(&[wrapped]);
            assert_eq!(paths, ["model.layers.1.q"], "{wrapped}");
            let warning = warning.unwrap();
            assert!(warning.contains(name), "{wrapped}: {warning}");
        }
    }

    #[test]
    fn a_name_that_the_base_has_stays() {
        assert_eq!(unwrapped(&["model.layers.0.module.q"]), (vec!["model.layers.0.module.q".to_owned()], None));
        assert_eq!(unwrapped(&["model.layers.1.q"]), (vec!["model.layers.1.q".to_owned()], None));
    }

    #[test]
    fn what_fits_in_no_way_stays_as_it_is() {
        let strange = "_orig_mod.model.layers.7.q";
        assert_eq!(unwrapped(&[strange]), (vec![strange.to_owned()], None));
    }

    #[test]
    fn an_attribute_is_left_out_only_if_every_path_begins_with_it() {
        let (paths, warning) = unwrapped(&["query.model.layers.0.q", "query.model.layers.1.q"]);
        assert_eq!(paths, ["model.layers.0.q", "model.layers.1.q"]);
        assert!(warning.unwrap().contains("query (an attribute around the model)"));
        let two = ["query.model.layers.0.q", "passage.model.layers.1.q"];
        assert_eq!(unwrapped(&two), (two.map(str::to_owned).to_vec(), None), "they are two models");
    }
}
