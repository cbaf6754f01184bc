//! A table of patterns is refused, or answers for any module path; a plain name matches the end of a path, as a list of modules
//! does.
//!
//! The last line is the module path, the others are patterns.

use shardfuse_merge::adapter::pattern::{Patterns, suffix_matches};

use super::memory::within;

/// A compiled pattern may be larger than its text by far: the engine's own limit is 10 MB each.
const TIMES: usize = 64 << 10;

/// See the module.
pub fn holds(bytes: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let mut lines: Vec<&str> = text.lines().collect();
    let Some(module) = lines.pop() else { return false };
    let table: Vec<(String, f64)> = lines.iter().zip(1..).map(|(line, n)| ((*line).to_owned(), f64::from(n))).collect();
    let Ok(patterns) = within(TIMES, bytes, || Patterns::compile("rank_pattern", &table)) else { return false };
    let matches = patterns.matches(module);
    assert!(matches.is_sorted_by(|a, b| a.1 < b.1), "not in the order of the file: {matches:?}");
    for (pattern, number) in &table {
        if pattern.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            let matched = matches.iter().any(|m| m.1 == *number);
            assert_eq!(matched, suffix_matches(pattern, module), "{pattern:?} and {module:?}");
        }
    }
    true
}
