//! How PEFT's patterns match a module path.
//!
//! `rank_pattern` and `alpha_pattern` keys are regular expressions; the first key, in the order of the file, with
//! `re.match(rf"(.*\.)?({key})$", path)` wins [peft/utils/other.py, get_pattern_key]. Python's expressions may look
//! around, so the `fancy-regex` crate matches them.

use fancy_regex::Regex;

use crate::error::{Error, Kind, Result};

/// A pattern table, compiled.
#[derive(Debug)]
pub struct Patterns {
    entries: Vec<(String, Regex, f64)>,
}

impl Patterns {
    /// Compiles a table in its order.
    pub fn compile(name: &str, table: &[(String, f64)]) -> Result<Patterns> {
        let entries = table
            .iter()
            .map(|(key, value)| {
                let regex = Regex::new(&format!(r"^(?:.*\.)?(?:{key})$")).map_err(|e| {
                    Error::new(Kind::BadConfig, format!("{name}: {key:?} is not a regular expression: {e}"))
                })?;
                Ok((key.clone(), regex, *value))
            })
            .collect::<Result<_>>()?;
        Ok(Patterns { entries })
    }

    /// Every entry that matches, in the order of the file; the first is the one that counts.
    pub fn matches(&self, module: &str) -> Vec<(&str, f64)> {
        // A pattern that runs into the engine's backtracking limit has not matched.
        self.entries
            .iter()
            .filter(|(_, r, _)| r.is_match(module).unwrap_or(false))
            .map(|(k, _, v)| (k.as_str(), *v))
            .collect()
    }
}

/// Whether a name from a list of modules names this path: equal, or its end after a dot.
pub fn suffix_matches(name: &str, module: &str) -> bool {
    module == name || module.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn first(table: &[(&str, f64)], module: &str) -> Option<f64> {
        let table: Vec<_> = table.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect();
        Patterns::compile("alpha_pattern", &table).unwrap().matches(module).first().map(|m| m.1)
    }

    #[test]
    fn a_key_matches_whole_path_components_only() {
        assert_eq!(first(&[("q_proj", 32.0)], "model.layers.0.self_attn.q_proj"), Some(32.0));
        assert_eq!(first(&[("q_proj", 32.0)], "model.layers.0.self_attn.my_q_proj"), None);
        assert_eq!(first(&[("q_proj", 32.0)], "q_proj"), Some(32.0));
    }

    #[test]
    fn the_first_key_of_the_file_wins() {
        let table = [(r"layers\.0\..*", 1.0), ("q_proj", 2.0)];
        assert_eq!(first(&table, "model.layers.0.self_attn.q_proj"), Some(1.0));
        assert_eq!(first(&table, "model.layers.1.self_attn.q_proj"), Some(2.0));
    }

    #[test]
    fn an_alternation_stays_inside_its_key() {
        assert_eq!(first(&[("q_proj|v_proj", 4.0)], "model.x_q_proj"), None);
        assert_eq!(first(&[("(?!q)._proj", 4.0)], "model.v_proj"), Some(4.0));
    }
}
