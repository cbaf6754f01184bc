//! Keys of an adapter that have no place in the base, in few words: grouped by pattern, with the nearest names of the base and
//! the cause where the names tell it.

use std::collections::{BTreeMap, BTreeSet};

use crate::base::names::Names;
use crate::bounded;

/// Patterns that are named.
const PATTERNS: usize = 4;
/// Keys that are named whole.
const EXAMPLES: usize = 3;
/// Patterns of the base that are named as the nearest.
const NEAREST: usize = 2;
/// The most patterns of a base that are looked at.
const MOST: usize = 2000;
/// The longest name that is compared or shown, in bytes.
const LONGEST: usize = 200;

/// The keys in a sentence: how many there are of each pattern, and some of them whole.
pub(super) fn listed(keys: &[String]) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    keys.iter().for_each(|key| *counts.entry(pattern(key)).or_default() += 1);
    let shown = |key: &String| bounded::text(key.clone(), LONGEST);
    let examples: Vec<String> = keys.iter().take(EXAMPLES).map(shown).collect();
    if counts.len() == keys.len() && keys.len() <= EXAMPLES {
        return examples.join(", ");
    }
    let mut counts: Vec<(String, usize)> = counts.into_iter().collect();
    counts.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    let mut groups: Vec<String> = counts
        .iter()
        .take(PATTERNS)
        .map(|(pattern, n)| format!("{n} of {}", bounded::text(pattern.clone(), LONGEST)))
        .collect();
    if let more @ 1.. = counts.len().saturating_sub(PATTERNS) {
        groups.push(format!("{more} more patterns"));
    }
    format!("{}; such as {}", groups.join(", "), examples.join(", "))
}

/// A name with `*` for each number between dots.
fn pattern(name: &str) -> String {
    let part = |part: &str| if number(part).is_some() { "*".to_owned() } else { part.to_owned() };
    name.split('.').map(part).collect::<Vec<_>>().join(".")
}

fn number(part: &str) -> Option<u64> {
    part.parse().ok().filter(|_| part.bytes().all(|b| b.is_ascii_digit()))
}

/// What the names tell of the cause, and where to look. `named` is the base that the adapter's configuration names.
pub(super) fn advice(keys: &[String], all: usize, named: Option<&str>, base: &Names<'_>) -> String {
    let trained = named.map_or(String::new(), |named| format!(" (its configuration names {named:?})"));
    let cause = match (beyond(keys, base), keys.len() == all) {
        (Some((highest, last)), _) => format!(
            "the adapter has layer {highest}, and the last layer of the base is {last}: it was trained on a larger model{trained}"
        ),
        (None, true) => format!("nothing of the adapter fits: it was trained on a model of another family{trained}"),
        (None, false) if keys.iter().all(|key| is_outside_of_layers(key)) => {
            "if these are a new head, name its class with --architecture".to_owned()
        }
        (None, false) => format!("is this the base that the adapter was trained on?{trained}"),
    };
    let near = nearest(keys, base);
    match near.is_empty() {
        true => cause,
        false => format!("{cause}; the nearest names of the base are {}", near.join(" and ")),
    }
}

/// The highest layer of the keys and the last of the base, if every key is of a layer beyond those of the base.
fn beyond(keys: &[String], base: &Names<'_>) -> Option<(u64, u64)> {
    let layer = |name: &str| name.split('.').find_map(number);
    let last = base.all().iter().filter_map(|name| layer(name)).max()?;
    let layers: Option<Vec<u64>> = keys.iter().map(|key| layer(key).filter(|layer| *layer > last)).collect();
    Some((layers?.into_iter().max()?, last))
}

fn is_outside_of_layers(key: &str) -> bool {
    key.split('.').all(|part| number(part).is_none())
}

/// The patterns of the base that are most like the first key's.
fn nearest(keys: &[String], base: &Names<'_>) -> Vec<String> {
    let Some(key) = keys.first() else { return Vec::new() };
    let wanted = bounded::text(pattern(module(key)), LONGEST);
    let patterns: BTreeSet<String> =
        base.all().iter().filter(|name| name.len() <= LONGEST).map(|name| pattern(name)).take(MOST * 50).collect();
    let alike =
        |name: &str| strsim::normalized_damerau_levenshtein(&wanted, name.strip_suffix(".weight").unwrap_or(name));
    let mut scored: Vec<(f64, String)> = patterns.into_iter().take(MOST).map(|name| (alike(&name), name)).collect();
    scored.sort_by(|one, other| other.0.total_cmp(&one.0).then_with(|| one.1.cmp(&other.1)));
    scored.into_iter().take(NEAREST).map(|(_, name)| name).collect()
}

/// The module of a key: without PEFT's wrapper before it, and without the part of a pair behind it.
fn module(key: &str) -> &str {
    let path = key.strip_prefix("base_model.model.").unwrap_or(key);
    let end = path.find(".lora_").or_else(|| path.rfind('.')).unwrap_or(path.len());
    &path[..end]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::modules::ModelClass;

    const KEY: &str = "base_model.model.model.layers.";

    fn keys(module: &str, layers: std::ops::Range<u64>) -> Vec<String> {
        let pair = |n| ["A", "B"].map(|part| format!("{KEY}{n}.{module}.lora_{part}.weight"));
        layers.flat_map(pair).collect()
    }

    fn advised(keys: &[String], all: usize) -> String {
        let stored: Vec<String> = (0..4)
            .flat_map(|n| ["q_proj", "o_proj"].map(|m| format!("model.layers.{n}.self_attn.{m}.weight")))
            .collect();
        let shape: &[u64] = &[4, 4];
        let class = ModelClass::default();
        let base = Names::new(stored.iter().map(|name| (name.as_str(), shape)), std::iter::empty(), &class);
        advice(keys, all, Some("org/other"), &base)
    }

    #[test]
    fn keys_are_counted_by_pattern_with_three_of_them_whole() {
        let text = listed(&keys("self_attn.query", 0..40));
        assert!(text.starts_with(&format!("40 of {KEY}*.self_attn.query.lora_A.weight, 40 of ")), "{text}");
        assert_eq!(text.matches(".0.").count() + text.matches(".1.").count(), 3, "three examples: {text}");
        assert_eq!(listed(&["score.weight".to_owned()]), "score.weight", "one needs no pattern");
    }

    #[test]
    fn the_list_is_short_whatever_the_adapter_holds() {
        let many: Vec<String> = (0..100_000).map(|n| format!("{}.{n}.x{n}", "y".repeat(300))).collect();
        assert!(listed(&many).len() < 3000);
        assert!(listed(&many).contains("99996 more patterns"));
    }

    #[test]
    fn a_larger_model_is_told_by_its_layers() {
        let advice = advised(&keys("self_attn.q_proj", 4..8), 16);
        assert!(advice.starts_with("the adapter has layer 7, and the last layer of the base is 3"), "{advice}");
        assert!(
            !advised(&keys("self_attn.query", 3..8), 16).contains("layer 7"),
            "layer 3 exists, so layers are not the cause"
        );
    }

    #[test]
    fn another_family_is_told_with_the_model_that_the_adapter_names() {
        let strange = keys("attention.query", 0..4);
        let advice = advised(&strange, strange.len());
        assert!(advice.contains("another family (its configuration names \"org/other\")"), "{advice}");
    }

    #[test]
    fn the_nearest_names_of_the_base_are_told() {
        let advice = advised(&keys("self_attn.q_prj", 0..1), 16);
        assert!(
            advice.contains("the nearest names of the base are model.layers.*.self_attn.q_proj.weight"),
            "{advice}"
        );
    }

    #[test]
    fn a_head_is_suggested_where_the_keys_are_outside_of_layers() {
        assert!(advised(&["base_model.model.ranker.weight".to_owned()], 16).contains("--architecture"));
    }
}
