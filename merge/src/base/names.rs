//! The names that an adapter's edits may have.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::experts::OneByOne;
use super::modules::{Member, ModelClass, Rule, Split};

/// What the names of all experts contain.
const EXPERTS: &str = "experts.";

/// The parameters of a base as an adapter sees them: those that are stored, and the other names of those that are tied.
#[derive(Debug)]
pub struct Names<'a> {
    sorted: Vec<&'a str>,
    /// The shapes, in the same order.
    shapes: Vec<&'a [u64]>,
    /// Names that are one parameter with others, each with the stored one of them.
    tied: Vec<(&'a str, &'a str)>,
    class: &'a ModelClass,
    /// Stored names by those that transformers gives the modules, where they differ. Made when it is first asked for.
    renamed: OnceCell<BTreeMap<String, &'a str>>,
    /// Experts that are stored one by one, by the parameter that transformers stacks them into. Likewise.
    stacked: OnceCell<BTreeMap<String, OneByOne<'a>>>,
    /// Stored tensors that hold several parameters, by the names of these. Likewise.
    split: OnceCell<BTreeMap<String, Part<'a>>>,
}

/// A parameter that is stored in one tensor with others.
#[derive(Debug, Clone, Copy)]
pub struct Part<'a> {
    /// The tensor.
    pub tensor: &'a str,
    /// Its shape.
    pub shape: &'a [u64],
    /// The parameter's number in it.
    pub part: usize,
    /// How the tensor holds its parts.
    pub split: &'a Split,
}

impl<'a> Names<'a> {
    /// The names and shapes of what is stored. `tied` are names that are one parameter with others, and need not be stored, each
    /// with one that is.
    pub fn new(
        tensors: impl Iterator<Item = (&'a str, &'a [u64])>,
        tied: impl Iterator<Item = (&'a str, &'a str)>,
        class: &'a ModelClass,
    ) -> Names<'a> {
        let mut tensors: Vec<(&str, &[u64])> = tensors.collect();
        tensors.sort_unstable_by_key(|(name, _)| *name);
        let (sorted, shapes) = tensors.into_iter().unzip();
        let mut tied: Vec<(&str, &str)> = tied.collect();
        tied.sort_unstable();
        Names {
            sorted,
            shapes,
            tied,
            class,
            renamed: OnceCell::new(),
            stacked: OnceCell::new(),
            split: OnceCell::new(),
        }
    }

    /// Whether the base has this parameter.
    pub fn has(&self, name: &str) -> bool {
        self.is_tied(name) || self.sorted.binary_search(&name).is_ok()
    }

    /// The name that transformers gives it in its modules.
    pub fn module(&self, name: &str) -> String {
        rename(self.class.rules.iter(), name)
    }

    /// The shape of a parameter that is stored under this name, or under another one that is tied to it.
    pub fn shape(&self, name: &str) -> Option<&'a [u64]> {
        let held = |name: &str| self.sorted.binary_search(&name).ok().map(|at| self.shapes[at]);
        held(name).or_else(|| held(self.tied[self.tied_at(name)?].1))
    }

    /// What is known of the model's class.
    pub fn class(&self) -> &'a ModelClass {
        self.class
    }

    /// The stored parameter that transformers knows by this name, or the one that it loads from a file of this name.
    pub fn renamed(&self, name: &str) -> Option<String> {
        if self.class.rules.is_empty() {
            return None;
        }
        let stored = self.by_module().get(name).map(|stored| (*stored).to_owned());
        // The other way round: the adapter is of the checkpoint's age, and the base was saved under the names of modules.
        stored.or_else(|| Some(self.module(name)).filter(|name| self.has(name)))
    }

    /// The stored tensor of a parameter, by its own name or by transformers'.
    pub fn stored(&self, parameter: &str) -> Option<String> {
        match self.shape(parameter) {
            Some(_) => Some(parameter.to_owned()),
            None => self.renamed(parameter),
        }
    }

    /// What a tensor of this name would be in a stacked parameter.
    pub fn member(&self, name: &str) -> Option<Member> {
        if !self.may_be_member(name) {
            return None;
        }
        self.class.member(&self.module(name))
    }

    /// Whether a name is worth a look, which takes an expression for each part.
    fn may_be_member(&self, name: &str) -> bool {
        self.class.stacks.iter().any(|stack| !stack.has_experts() || name.contains(EXPERTS))
    }

    /// The stored tensor that holds a parameter of this name with others.
    pub fn part(&self, parameter: &str) -> Option<Part<'a>> {
        self.by_part().get(parameter).copied()
    }

    /// The parameters that transformers makes of a tensor of this name.
    pub fn parts_of(&self, name: &str) -> Option<(&'a Split, Vec<String>)> {
        if self.class.splits.is_empty() {
            return None;
        }
        self.class.split(&self.module(name))
    }

    /// The tensors that transformers stacks into a parameter of this name.
    pub fn stacked(&self, parameter: &str) -> Option<&OneByOne<'a>> {
        self.by_parameter().get(parameter)
    }

    /// Whether it has a parameter of this module, or below it, by a stored name or by transformers' own.
    pub fn has_module(&self, path: &str) -> bool {
        let below = format!("{path}.");
        let stored = || {
            let at = self.sorted.partition_point(|name| *name < below.as_str());
            self.sorted.get(at).is_some_and(|name| name.starts_with(&below))
        };
        let tied = || {
            let at = self.tied.partition_point(|(name, _)| *name < below.as_str());
            self.tied.get(at).is_some_and(|(name, _)| name.starts_with(&below))
        };
        let stacked = || self.by_parameter().range(below.clone()..).next().is_some_and(|n| n.0.starts_with(&below));
        let renamed = || self.by_module().range(below.clone()..).next().is_some_and(|n| n.0.starts_with(&below));
        let split = || self.by_part().range(below.clone()..).next().is_some_and(|n| n.0.starts_with(&below));
        stored()
            || tied()
            || (!self.class.rules.is_empty() && renamed())
            || (!self.class.stacks.is_empty() && stacked())
            || split()
    }

    fn by_module(&self) -> &BTreeMap<String, &'a str> {
        self.renamed.get_or_init(|| {
            let rules = self.acting();
            let all = self.sorted.iter().chain(self.tied.iter().map(|(name, _)| name));
            let renamed = all.map(|name| (rename(rules.iter().copied(), name), *name));
            renamed.filter(|(module, stored)| module != stored).collect()
        })
    }

    fn by_parameter(&self) -> &BTreeMap<String, OneByOne<'a>> {
        self.stacked.get_or_init(|| {
            let mut found: BTreeMap<Vec<String>, OneByOne<'a>> = BTreeMap::new();
            if self.class.stacks.is_empty() {
                return BTreeMap::new();
            }
            let rules = self.acting();
            for (name, shape) in self.sorted.iter().zip(&self.shapes) {
                if !self.may_be_member(name) {
                    continue;
                }
                let Some(member) = self.class.member(&rename(rules.iter().copied(), name)) else { continue };
                let stack =
                    found.entry(member.parameters).or_insert_with(|| OneByOne::new(member.parts, member.across));
                stack.insert(member.part, member.expert, name, shape);
            }
            let shared = |(names, all): (Vec<String>, OneByOne<'a>)| {
                let of = names.len();
                let one = move |(number, name)| (name, if of == 1 { all.clone() } else { all.share(number, of) });
                names.into_iter().enumerate().map(one)
            };
            found.into_iter().flat_map(shared).collect()
        })
    }

    fn by_part(&self) -> &BTreeMap<String, Part<'a>> {
        self.split.get_or_init(|| {
            let mut found = BTreeMap::new();
            if self.class.splits.is_empty() {
                return found;
            }
            let rules = self.acting();
            for (tensor, shape) in self.sorted.iter().zip(&self.shapes) {
                let Some((split, names)) = self.class.split(&rename(rules.iter().copied(), tensor)) else { continue };
                let parts = names.into_iter().enumerate();
                found.extend(parts.map(|(part, name)| (name, Part { tensor, shape, part, split })));
            }
            found
        })
    }

    fn acting(&self) -> Vec<&'a Rule> {
        self.class.rules.iter().filter(|rule| rule.acts(self.sorted.iter().copied())).collect()
    }

    /// The names of the stored parameters, sorted.
    pub fn all(&self) -> &[&'a str] {
        &self.sorted
    }

    /// Whether it is one parameter with other names.
    pub fn is_tied(&self, name: &str) -> bool {
        self.tied_at(name).is_some()
    }

    fn tied_at(&self, name: &str) -> Option<usize> {
        self.tied.binary_search_by_key(&name, |(name, _)| name).ok()
    }
}

/// A name after all rules, in their order.
fn rename<'r>(rules: impl Iterator<Item = &'r Rule>, name: &str) -> String {
    rules.fold(name.to_owned(), |name, rule| rule.apply(&name).unwrap_or(name))
}
