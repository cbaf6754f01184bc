//! JSON as Python's `json` module reads and writes it, for the configurations of models and adapters.
//!
//! Python takes more than the standard: a byte order mark at the start, `NaN`, `Infinity` and `-Infinity`, integers of
//! any length, and numbers too large for an f64 (which become infinite). transformers writes some of them. [`parse`] reads
//! them all, and [`render`] writes them back as they stood.
//!
//! `serde_json`'s [`Value`] has no place for such numbers. So they are replaced before parsing by strings that begin with
//! a character that Unicode keeps free for internal use, and put back when a value is written.
//!
//! **Memory.** A tree of values can take a hundred times the memory of its text. [`parse`] counts what it builds and refuses
//! more than [`MAX_TREE`] bytes.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use crate::error::{Error, Kind, Result};

/// The longest configuration that is read, in bytes.
pub const MAX_CONFIG: u64 = 8 << 20;
/// The most memory that the values of one configuration may take, in bytes.
pub const MAX_TREE: usize = 64 << 20;

/// Begins the string that stands for a number's text. U+10FFFF is no character of any language.
const MARK: char = '\u{10ffff}';
/// The longest integer that Python reads, in digits.
const MAX_DIGITS: usize = 4300;

/// Parses a configuration. `name` names the file in messages.
///
/// # Errors
/// `bad_config` where Python would not read it either, or where its values would take more than [`MAX_TREE`].
pub fn parse(name: &str, bytes: &[u8]) -> Result<Value> {
    let bad = |why: String| Error::new(Kind::BadConfig, format!("{name} {why}"));
    let text = strict(bytes).map_err(bad)?;
    let mut left = MAX_TREE;
    let mut parser = serde_json::Deserializer::from_slice(&text);
    let value = Tree { left: &mut left }.deserialize(&mut parser).and_then(|value| parser.end().map(|()| value));
    value.map_err(|e| match left {
        0 => bad(format!("holds so many values that they would take more than {} MiB of memory", MAX_TREE >> 20))
            .hint("a model's configuration has a few kilobytes: this file is damaged, or made to exhaust the memory"),
        _ => bad(format!("is not JSON: {e}")),
    })
}

/// A value as text, indented by two spaces, with the numbers that [`parse`] keeps as text put back.
pub fn render(value: &Value) -> String {
    restore(&serde_json::to_string_pretty(value).unwrap_or_default())
}

/// A value on one line, for messages; cut off where it is longer than a line.
pub fn show(value: &Value) -> String {
    const LONGEST: usize = 160;
    let text = restore(&value.to_string());
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

/// A text.
pub fn text(value: &Value) -> Option<&str> {
    value.as_str().filter(|text| !text.starts_with(MARK))
}

/// A number, infinite ones and NaN included.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::String(text) => match text.strip_prefix(MARK)? {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            digits => digits.parse().ok(),
        },
        other => other.as_f64(),
    }
}

/// The same value for readers of standard JSON: a number that has no place there becomes a string of its text.
pub fn standard(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.strip_prefix(MARK).unwrap_or(text).to_owned()),
        Value::Array(items) => items.iter().map(standard).collect(),
        Value::Object(map) => map.iter().map(|(k, v)| (k.clone(), standard(v))).collect(),
        other => other.clone(),
    }
}

/// The text without a byte order mark.
pub fn without_mark(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes)
}

/// The text in standard JSON: without a byte order mark, with marked strings for the numbers that have no place there.
pub(crate) fn strict(bytes: &[u8]) -> std::result::Result<Cow<'_, [u8]>, String> {
    let bytes = without_mark(bytes);
    let mut out = Vec::new();
    // Up to where `bytes` is in `out`.
    let mut done = 0;
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = string_end(bytes, at);
                if marked(&bytes[at..end]) {
                    return Err("holds the character U+10FFFF, which is no text".to_owned());
                }
                at = end;
            }
            b'N' | b'I' | b'-' | b'0'..=b'9' => {
                let end = token_end(bytes, at);
                let token = &bytes[at..end];
                if let Some(text) = std::str::from_utf8(token).ok().filter(|t| keeps_text(t)) {
                    out.extend_from_slice(&bytes[done..at]);
                    out.extend_from_slice(format!("\"{MARK}{text}\"").as_bytes());
                    done = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    if done == 0 {
        return Ok(Cow::Borrowed(bytes));
    }
    out.extend_from_slice(&bytes[done..]);
    Ok(Cow::Owned(out))
}

/// Where the string that begins at `at` ends, its quotes included.
fn string_end(bytes: &[u8], at: usize) -> usize {
    let mut i = at + 1;
    while let Some(byte) = bytes.get(i) {
        match byte {
            b'"' => return i + 1,
            b'\\' => i += 2,
            _ => i += 1,
        }
    }
    bytes.len()
}

fn token_end(bytes: &[u8], at: usize) -> usize {
    let within = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'+' | b'.');
    bytes[at..].iter().position(|b| !within(b)).map_or(bytes.len(), |n| at + n)
}

/// Whether a string's text holds [`MARK`], plain or escaped.
fn marked(string: &[u8]) -> bool {
    let has = |what: &[u8]| string.windows(what.len()).any(|w| w.eq_ignore_ascii_case(what));
    string.contains(&0xf4) && has("\u{10ffff}".as_bytes()) || string.contains(&b'\\') && has(b"\\udbff\\udfff")
}

/// Whether a token outside of strings is a number that must be kept as its text.
fn keeps_text(token: &str) -> bool {
    if matches!(token, "NaN" | "Infinity" | "-Infinity") {
        return true;
    }
    let digits = token.strip_prefix('-').unwrap_or(token);
    if digits.bytes().all(|b| b.is_ascii_digit()) {
        let plain = digits == "0" || !digits.starts_with('0');
        let fits = token.parse::<i64>().is_ok() || token.parse::<u64>().is_ok();
        return plain && !fits && (1..=MAX_DIGITS).contains(&digits.len());
    }
    // The parser refuses what is not a number.
    well_formed(digits) && token.parse::<f64>().is_ok_and(f64::is_infinite)
}

/// Whether a token is a fraction or has an exponent, as JSON writes them.
fn well_formed(digits: &str) -> bool {
    let (mantissa, exponent) = digits.split_once(['e', 'E']).map_or((digits, None), |(m, e)| (m, Some(e)));
    let (whole, fraction) = mantissa.split_once('.').map_or((mantissa, None), |(w, f)| (w, Some(f)));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    number(whole)
        && (whole == "0" || !whole.starts_with('0'))
        && fraction.is_none_or(number)
        && exponent.is_none_or(|e| number(e.strip_prefix(['+', '-']).unwrap_or(e)))
}

/// Puts the numbers back that stand as marked strings.
fn restore(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let begin = format!("\"{MARK}");
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(&begin) {
        let (number, behind) = after.split_once('"').unwrap_or((after, ""));
        out.push_str(before);
        out.push_str(number);
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// Builds a [`Value`] as long as there is memory left for it.
struct Tree<'a> {
    left: &'a mut usize,
}

/// What a value takes in a list, which may have reserved twice as much as it holds.
const IN_LIST: usize = 2 * size_of::<Value>();
/// What a key takes in an object beside its own text, with the object's table.
const IN_OBJECT: usize = 2 * (size_of::<String>() + size_of::<Value>() + 2 * size_of::<usize>());
/// What an object that is not empty takes at once.
const OBJECT: usize = 4 * IN_OBJECT;

impl Tree<'_> {
    fn take<E: serde::de::Error>(&mut self, bytes: usize) -> std::result::Result<(), E> {
        *self.left = self.left.saturating_sub(bytes);
        if *self.left == 0 { Err(E::custom("too many values")) } else { Ok(()) }
    }
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> std::result::Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> std::result::Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> std::result::Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: serde::de::Error>(mut self, value: &str) -> std::result::Result<Value, E> {
        self.take(value.len())?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> std::result::Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(Tree { left: self.left })? {
            self.take(IN_LIST)?;
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> std::result::Result<Value, A::Error> {
        let mut entries = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.take(key.len() + if entries.is_empty() { OBJECT } else { IN_OBJECT })?;
            // As in Python, a key that comes again keeps its place and takes the later value.
            entries.insert(key, map.next_value_seed(Tree { left: self.left })?);
        }
        Ok(Value::Object(entries))
    }
}

/// A string of a document that was made [`strict`].
pub(crate) fn string<'de, D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match text.strip_prefix(MARK) {
        Some(number) => Err(D::Error::custom(format!("{number} is not a string"))),
        None => Ok(text),
    }
}

#[cfg(test)]
mod tests;
