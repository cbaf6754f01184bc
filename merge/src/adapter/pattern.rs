//! How PEFT's patterns match a module path.
//!
//! `rank_pattern` and `alpha_pattern` keys are regular expressions; the first key, in the order of the file, with
//! `re.match(rf"(.*\.)?({key})$", path)` wins [peft/utils/other.py, get_pattern_key].
//!
//! Most keys are plain module names. They are looked up in an index, so that a table with an entry for each of many
//! thousand modules takes time in proportion to its length. Python's expressions may look around, so the `fancy-regex`
//! crate matches the others, one after another: only one is held compiled at a time.
//!
//! Bounds: [`MAX_LENGTH`], [`MAX_ENTRIES`], [`MAX_EXPRESSIONS`], `SIZES` for what is compiled, `TRIES` for one match,
//! and [`Effort`] for all matches of a plan. An expression that goes beyond one of them is refused: it may match in
//! Python, and no match would merge with another scale.

use std::collections::HashMap;

use fancy_regex::{Regex, RegexBuilder};

use super::literal::{Index, literal};
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};

/// The longest key, in bytes.
pub const MAX_LENGTH: usize = 4 << 10;
/// The most entries of one table.
pub const MAX_ENTRIES: usize = 100_000;
/// The most entries of one table that are more than plain names.
pub const MAX_EXPRESSIONS: usize = 1_000;
/// Bytes that one expression may take when it is compiled, and how much a character costs at that size.
const SIZES: [(usize, u64); 3] = [(16 << 10, 1), (128 << 10, 8), (1 << 20, 64)];
/// Steps that compiling takes, by the same cost.
const COMPILING: u64 = 10_000;
/// Bytes of the tables that an expression builds while it matches.
const CACHE: usize = 1 << 20;
/// How often the engine may go back in one match; the next is tried where the one before is not enough.
const TRIES: [usize; 3] = [64, 4_096, 1_000_000];

/// A pattern table.
#[derive(Debug)]
pub struct Patterns {
    name: &'static str,
    entries: Vec<(String, f64)>,
    names: Index,
    /// The entries that are expressions.
    expressions: Vec<u32>,
}

impl Patterns {
    /// Takes a table in its order; `name` is its key in adapter_config.json.
    pub fn new(name: &'static str, table: &[(String, f64)]) -> Result<Patterns> {
        let bad = |message: String| Err(Error::new(Kind::BadConfig, format!("{name} {message}")));
        if table.len() > MAX_ENTRIES {
            return bad(format!("has {} entries, at most {MAX_ENTRIES} are taken", table.len()));
        }
        let mut patterns = Patterns { name, entries: table.to_vec(), names: Index::default(), expressions: Vec::new() };
        for (number, (key, _)) in (0u32..).zip(table) {
            if key.len() > MAX_LENGTH {
                let begin: String = key.chars().take(80).collect();
                return bad(format!("has a key of {} bytes, at most {MAX_LENGTH} are taken: {begin:?}...", key.len()));
            }
            match literal(key) {
                Some(literal) => patterns.names.add(number, literal),
                None => patterns.expressions.push(number),
            }
        }
        if patterns.expressions.len() > MAX_EXPRESSIONS {
            return bad(format!(
                "has {} regular expressions, at most {MAX_EXPRESSIONS} are taken beside plain names",
                patterns.expressions.len()
            ));
        }
        Ok(patterns)
    }

    /// For each module the entries that match, in the order of the file; the first is the one that counts.
    ///
    /// # Errors
    /// [`Kind::BadConfig`] if a key is no regular expression, or takes more than it may.
    pub fn matches(&self, modules: &[&str], effort: &mut Effort) -> Result<Vec<Vec<(&str, f64)>>> {
        let mut found: Vec<Vec<u32>> = Vec::with_capacity(modules.len());
        for module in modules {
            let mut steps = 0;
            found.push(self.names.matches(module, &mut steps));
            effort.spend(steps, || format!("a key of {}", self.name))?;
        }
        for number in &self.expressions {
            let mut expression = Expression::new(self.name, &self.entries[*number as usize].0, effort)?;
            for (module, found) in modules.iter().zip(&mut found) {
                if expression.matches(module, effort)? {
                    found.push(*number);
                }
            }
        }
        let entry = |number: u32| {
            let (key, value) = &self.entries[number as usize];
            (key.as_str(), *value)
        };
        Ok(found
            .into_iter()
            .map(|mut numbers| {
                numbers.sort_unstable();
                numbers.into_iter().map(entry).collect()
            })
            .collect())
    }
}

/// One key that is more than a name.
struct Expression<'a> {
    table: &'a str,
    key: &'a str,
    size: usize,
    cost: u64,
    /// By the number of times that it may go back; compiled when they are needed.
    compiled: HashMap<usize, Regex>,
}

impl<'a> Expression<'a> {
    /// Compiles it at the smallest size that holds it.
    fn new(table: &'a str, key: &'a str, effort: &mut Effort) -> Result<Self> {
        let mut last = None;
        for (size, cost) in SIZES {
            effort.spend(COMPILING * cost, || format!("{table} {key:?}"))?;
            match build(key, size, TRIES[0]) {
                Ok(regex) => {
                    return Ok(Expression { table, key, size, cost, compiled: HashMap::from([(TRIES[0], regex)]) });
                }
                Err(e) => last = Some(e),
            }
        }
        let why = last.unwrap_or_default();
        Err(Error::new(
            Kind::BadConfig,
            format!("{table}: {key:?} is not a regular expression, or too large a one: {why}"),
        ))
    }

    fn matches(&mut self, module: &str, effort: &mut Effort) -> Result<bool> {
        let refuse = |why: &str| {
            Error::new(
                Kind::BadConfig,
                format!("{}: {:?} cannot be matched with {module}: {why}", self.table, self.key),
            )
            .hint("write the pattern so that it needs less backtracking, or name the modules")
        };
        for tries in TRIES {
            effort
                .spend(module.len() as u64 * self.cost + tries as u64, || format!("{} {:?}", self.table, self.key))?;
            let regex = match self.compiled.entry(tries) {
                std::collections::hash_map::Entry::Occupied(held) => held.into_mut(),
                std::collections::hash_map::Entry::Vacant(place) => {
                    place.insert(build(self.key, self.size, tries).map_err(|e| refuse(&e))?)
                }
            };
            if let Ok(matched) = regex.is_match(module) {
                return Ok(matched);
            }
        }
        Err(refuse(&format!("the engine goes back more than {} times", TRIES[TRIES.len() - 1])))
    }
}

/// The error is the engine's text.
fn build(key: &str, size: usize, tries: usize) -> std::result::Result<Regex, String> {
    RegexBuilder::new(&format!(r"^(?:.*\.)?(?:{key})$"))
        .backtrack_limit(tries)
        .delegate_size_limit(size)
        .delegate_dfa_size_limit(CACHE)
        .build()
        .map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effort::Cancel;

    fn all(table: &[(&str, f64)], modules: &[&str]) -> Result<Vec<Vec<f64>>> {
        let table: Vec<_> = table.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        let patterns = Patterns::new("alpha_pattern", &table)?;
        let found = patterns.matches(modules, &mut Effort::new(Cancel::default()))?;
        Ok(found.into_iter().map(|m| m.into_iter().map(|(_, v)| v).collect()).collect())
    }

    fn first(table: &[(&str, f64)], module: &str) -> Option<f64> {
        all(table, &[module]).unwrap()[0].first().copied()
    }

    #[test]
    fn a_key_matches_whole_path_components_only() {
        assert_eq!(first(&[("q_proj", 32.0)], "model.layers.0.self_attn.q_proj"), Some(32.0));
        assert_eq!(first(&[("q_proj", 32.0)], "model.layers.0.self_attn.my_q_proj"), None);
        assert_eq!(first(&[("q_proj", 32.0)], "q_proj"), Some(32.0));
    }

    #[test]
    fn the_first_key_of_the_file_wins_whether_name_or_expression() {
        let table = [(r"layers\.0\..*", 1.0), ("q_proj", 2.0), (r".*proj", 3.0)];
        assert_eq!(
            all(&table, &["model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj"]).unwrap(),
            [vec![1.0, 2.0, 3.0], vec![2.0, 3.0]]
        );
    }

    #[test]
    fn an_alternation_stays_inside_its_key() {
        assert_eq!(first(&[("q_proj|v_proj", 4.0)], "model.x_q_proj"), None);
        assert_eq!(first(&[("(?!q)._proj", 4.0)], "model.v_proj"), Some(4.0));
    }

    /// A key whose match needs more and more backtracking, as Python's engine does in a moment.
    fn backtracking(times: usize) -> String {
        format!(r"(?:{}!)|model\.layers\.0\.self_attn\.q_proj", "(?:(?=.).)*".repeat(times))
    }

    #[test]
    fn an_expression_that_backtracks_within_its_bound_matches() {
        for times in 1..5 {
            assert_eq!(first(&[(&backtracking(times), 100.0)], "model.layers.0.self_attn.q_proj"), Some(100.0));
        }
    }

    #[test]
    fn an_expression_beyond_its_bound_is_refused_by_name_and_is_never_no_match() {
        let error = all(&[(&backtracking(6), 100.0)], &["model.layers.0.self_attn.q_proj"]).unwrap_err();
        assert_eq!(error.kind(), Kind::BadConfig);
        assert!(error.message().contains("alpha_pattern") && error.message().contains("(?=.)"), "{error}");
    }

    #[test]
    fn an_expression_that_compiles_to_too_much_is_refused() {
        let error = all(&[(r"(?:\w{200}){200}", 1.0)], &["q"]).unwrap_err();
        assert!(error.kind() == Kind::BadConfig && error.message().contains("too large"), "{error}");
        assert_eq!(all(&[("(", 1.0)], &["q"]).unwrap_err().kind(), Kind::BadConfig);
    }

    #[test]
    fn keys_are_bounded_in_length_and_number() {
        let longest = "x".repeat(MAX_LENGTH);
        assert!(all(&[(&longest, 1.0)], &["q"]).is_ok());
        assert_eq!(all(&[(&format!("{longest}x"), 1.0)], &["q"]).unwrap_err().kind(), Kind::BadConfig);
        let many = |n: usize, key: &str| (0..n).map(|i| (format!("{key}{i}"), 1.0)).collect::<Vec<_>>();
        assert!(Patterns::new("rank_pattern", &many(MAX_EXPRESSIONS, "x*")).is_ok());
        assert!(Patterns::new("rank_pattern", &many(MAX_EXPRESSIONS + 1, "x*")).is_err());
        assert!(Patterns::new("rank_pattern", &many(MAX_ENTRIES + 1, "x")).is_err());
    }

    #[test]
    fn the_expressions_of_a_plan_share_their_steps_and_run_out_at_the_same_one_each_time() {
        let table: Vec<_> = (0..100).map(|i| (format!("(?!x{i}).*"), 1.0)).collect();
        let modules: Vec<String> = (0..50).map(|i| format!("model.layers.{i}.q_proj")).collect();
        let modules: Vec<&str> = modules.iter().map(String::as_str).collect();
        let patterns = Patterns::new("rank_pattern", &table).unwrap();
        let run = |steps| patterns.matches(&modules, &mut Effort::of_steps(steps));
        assert!(run(10_000_000).is_ok());
        let refusal = run(1_000_000).unwrap_err();
        assert_eq!(refusal.kind(), Kind::BadConfig);
        assert!(refusal.message().contains("steps in all") && refusal.message().contains("(?!x"), "{refusal}");
        assert_eq!(refusal.message(), run(1_000_000).unwrap_err().message());
    }

    #[test]
    fn plain_names_take_steps_in_proportion_to_the_modules() {
        let names: Vec<String> = (0..5_000).map(|i| format!("model.layers.{i}.q_proj")).collect();
        let table: Vec<_> = names.iter().map(|n| (n.clone(), 1.0)).collect();
        let modules: Vec<&str> = names.iter().map(String::as_str).collect();
        let patterns = Patterns::new("rank_pattern", &table).unwrap();
        let found = patterns.matches(&modules, &mut Effort::of_steps(40 * 5_000)).unwrap();
        assert!(found.iter().zip(&names).all(|(m, n)| m.len() == 1 && m[0].0 == n));
    }

    #[test]
    fn a_cancelled_plan_stops_between_two_matches() {
        let cancel = Cancel::default();
        cancel.cancel();
        let patterns = Patterns::new("rank_pattern", &[("x*".into(), 1.0)]).unwrap();
        let error = patterns.matches(&["x"], &mut Effort::new(cancel)).unwrap_err();
        assert_eq!(error.kind(), Kind::Interrupted);
    }
}
