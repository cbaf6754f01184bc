//! One renaming, as transformers applies it [`core_model_loading.py`, `WeightTransform.rename_source_key`].

use fancy_regex::{Captures, Regex};

use super::scope::Scope;

/// A renaming.
#[derive(Debug)]
pub struct Rule {
    pub(super) scope: Scope,
    /// Expressions, each with what replaces its match.
    pub(super) branches: Vec<(Regex, String)>,
    /// Whether it acts only if some name matches the first branch.
    pub(super) guarded: bool,
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
            self.scope
                .within(name)
                .zip(first)
                .is_some_and(|((_, rest), (guard, _))| guard.is_match(rest).unwrap_or(false))
        };
        !self.guarded || names.any(guard)
    }

    /// The leftmost match, the first branch's where several begin there.
    fn find<'a>(&'a self, name: &'a str) -> Option<(Captures<'a>, &'a str)> {
        let of = |(regex, to): &'a (Regex, String)| Some((regex.captures(name).ok()??, to.as_str()));
        self.branches.iter().filter_map(of).min_by_key(|(found, _)| found.get(0).map_or(usize::MAX, |m| m.start()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(scope: &[&str], branches: &[(&str, &str)]) -> Rule {
        let branch = |(from, to): &(&str, &str)| (Regex::new(from).unwrap(), (*to).to_owned());
        Rule { scope: scope.into(), branches: branches.iter().map(branch).collect(), guarded: false }
    }

    #[test]
    fn the_match_is_replaced_with_its_first_group() {
        let layers = rule(&[], &[(r"encoder\.layer\.(\d+)\.", r"layers.\1.")]);
        assert_eq!(layers.apply("vit.encoder.layer.11.q.weight").as_deref(), Some("vit.layers.11.q.weight"));
        assert_eq!(layers.apply("vit.layers.11.q.weight"), None);
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
