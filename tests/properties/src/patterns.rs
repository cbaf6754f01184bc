//! A table of patterns is refused, or answers for any module path what the regular expressions answer one by one.
//!
//! The last line is the module path, the others are patterns.

use fancy_regex::Regex;
use shardfuse_merge::adapter::pattern::Patterns;
use shardfuse_merge::effort::{Cancel, Effort};

use super::memory::within;

/// An expression may take 1 MiB compiled and 1 MiB while it matches, and the parser's tree comes on top.
const TIMES: usize = 4 << 10;
/// The least that is allowed: short tables are mostly the engine's own.
const LEAST: usize = 4 << 10;

/// See the module.
pub fn holds(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut lines: Vec<&str> = text.lines().collect();
    let Some(module) = lines.pop() else { return false };
    let table: Vec<(String, f64)> = lines.iter().zip(1..).map(|(line, n)| ((*line).to_owned(), f64::from(n))).collect();
    let matched = within(TIMES, &[bytes, &[0; LEAST]].concat(), || {
        let patterns = Patterns::new("rank_pattern", &table).ok()?;
        let matches = patterns.matches(&[module], &mut Effort::new(Cancel::default())).ok()?;
        Some(matches[0].iter().map(|(_, number)| *number).collect::<Vec<_>>())
    });
    let Some(matched) = matched else { return false };
    assert!(matched.is_sorted_by(|a, b| a < b), "not in the order of the file: {matched:?}");
    for (pattern, number) in &table {
        // Python reads these two as the character, the engine as a word's begin and end.
        if pattern.contains("\\<") || pattern.contains("\\>") {
            continue;
        }
        let Ok(regex) = Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")) else { continue };
        if let Ok(expected) = regex.is_match(module) {
            assert_eq!(matched.contains(number), expected, "{pattern:?} and {module:?}");
        }
    }
    true
}
