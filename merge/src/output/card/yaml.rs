//! The little YAML that a card is written in.

use std::fmt::Write;

/// Texts that YAML, of one version or another, reads as something else.
const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];

/// A text as YAML reads it back: plain where nothing can be meant by it, else in quotes. JSON's are YAML's.
pub(super) fn quoted(text: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(fits)
        && !WORDS.contains(&text.to_ascii_lowercase().as_str());
    if plain { text.to_owned() } else { serde_json::Value::from(text).to_string() }
}

/// A key with a text.
pub(super) fn text(out: &mut String, key: &str, value: &str) {
    let _ = writeln!(out, "{key}: {}", quoted(value));
}

/// A key with a list.
pub(super) fn list(out: &mut String, key: &str, values: &[&str]) {
    let _ = writeln!(out, "{key}:");
    values.iter().for_each(|value| _ = writeln!(out, "- {}", quoted(value)));
}
