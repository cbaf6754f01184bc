//! One renaming, as transformers applies it [`core_model_loading.py`, `WeightTransform.rename_source_key`].

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, PoisonError};

use fancy_regex::{Captures, Regex};

use super::scope::Scope;

/// A renaming.
#[derive(Debug)]
pub struct Rule {
    pub(super) scope: Scope,
    /// Any of them may match.
    pub(super) branches: Vec<Renaming>,
    /// Whether it acts only if some name matches the first branch.
    pub(super) guarded: bool,
}

/// An expression and what replaces its match.
#[derive(Debug)]
pub(super) struct Renaming {
    from: Regex,
    /// Matches wherever `from` does, and is quick: without the end of a word, which only a slow engine knows.
    hint: Option<Regex>,
    to: String,
}

/// What most expressions of the table end with.
const END_OF_WORD: &str = r"(?!\w)";

impl Renaming {
    /// Compiles an expression.
    ///
    /// # Errors
    /// If it is none.
    pub(super) fn new(from: &str, to: &str) -> Result<Renaming, Box<fancy_regex::Error>> {
        let begin = from.strip_suffix(END_OF_WORD).filter(|begin| !begin.contains("(?"));
        Ok(Renaming { from: compiled(from)?, hint: begin.map(compiled).transpose()?, to: to.to_owned() })
    }

    fn find<'a>(&'a self, name: &'a str) -> Option<(Captures<'a>, &'a str)> {
        if self.hint.as_ref().is_some_and(|hint| !hint.is_match(name).unwrap_or(true)) {
            return None;
        }
        Some((self.from.captures(name).ok()??, self.to.as_str()))
    }
}

/// Compiles an expression of the table, once for a process: a coordinator plans many merges.
///
/// # Errors
/// If it is none.
pub(super) fn compiled(pattern: &str) -> Result<Regex, Box<fancy_regex::Error>> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);
    let mut all = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = all.get(pattern) {
        return Ok(regex.clone());
    }
    let regex = Regex::new(pattern)?;
    all.insert(pattern.to_owned(), regex.clone());
    Ok(regex)
}

impl Rule {
    /// The name after this rule; `None` if it leaves the name alone.
    pub fn apply(&self, name: &str) -> Option<String> {
        let (prefix, rest) = self.scope.within(name)?;
        let (found, to) = self.find(rest)?;
        let matched = found.get(0)?.as_str();
        let group = found.get(1).map_or("", |group| group.as_str());
        let renamed = rest.replacen(matched, &to.replace(r"\1", group), 1);
        Some(format!("{prefix}{renamed}"))
    }

    /// Whether it acts on a model with these names.
    pub fn acts<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        let guard = |name| {
            let first = self.branches.first();
            self.scope.within(name).zip(first).is_some_and(|((_, rest), guard)| guard.find(rest).is_some())
        };
        !self.guarded || names.any(guard)
    }

    /// The leftmost match, the first branch's where several begin there.
    fn find<'a>(&'a self, name: &'a str) -> Option<(Captures<'a>, &'a str)> {
        let found = self.branches.iter().filter_map(|branch| branch.find(name));
        found.min_by_key(|(found, _)| found.get(0).map_or(usize::MAX, |m| m.start()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(scope: &[&str], branches: &[(&str, &str)]) -> Rule {
        let branch = |(from, to): &(&str, &str)| Renaming::new(from, to).unwrap();
        Rule { scope: scope.into(), branches: branches.iter().map(branch).collect(), guarded: false }
    }

    #[test]
    fn the_match_is_replaced_with_its_first_group() {
        let layers = rule(&[], &[(r"encoder\.layer\.(\d+)\.", r"layers.\1.")]);
        assert_eq!(layers.apply("vit.encoder.layer.11.q.weight").as_deref(), Some("vit.layers.11.q.weight"));
        assert_eq!(layers.apply("vit.layers.11.q.weight"), None);
    }

    #[test]
    fn the_end_of_a_word_counts() {
        let gamma = rule(&[], &[(r"norm\.gamma(?!\w)", "norm.weight")]);
        assert_eq!(gamma.apply("a.norm.gamma").as_deref(), Some("a.norm.weight"));
        assert_eq!(gamma.apply("a.norm.gammas"), None);
    }

    #[test]
    fn a_scope_stays_and_names_outside_it_are_left_alone() {
        let scoped = rule(&["model.vision.", "vision."], &[("^q", "query")]);
        assert_eq!(scoped.apply("model.vision.q").as_deref(), Some("model.vision.query"));
        assert_eq!(scoped.apply("vision.q").as_deref(), Some("vision.query"));
        assert_eq!(scoped.apply("text.q"), None);
    }

    #[test]
    fn the_leftmost_branch_counts_and_the_first_at_one_place() {
        let two = rule(&[], &[("b", "1"), ("a", "2"), ("ab", "3")]);
        assert_eq!(two.apply("xab").as_deref(), Some("x2b"));
    }

    #[test]
    fn a_guarded_rule_acts_where_its_first_branch_matches() {
        let guarded = Rule { guarded: true, ..rule(&[], &[("norm0", "norm1"), ("norm1", "norm2")]) };
        assert!(guarded.acts(["a.norm1", "a.norm0"].into_iter()));
        assert!(!guarded.acts(["a.norm1", "a.norm2"].into_iter()), "these were renamed already");
    }
}
