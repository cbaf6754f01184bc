//! The fields of `adapter_config.json`, read with their types. `null` stands for a field that is not there.

use serde_json::{Map, Value};

use super::modules::Modules;
use crate::error::{Error, Kind, Result};
use crate::json::{self, number as as_number, show};

/// The fields of a configuration.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a>(pub &'a Map<String, Value>);

impl<'a> Fields<'a> {
    /// A field that is there.
    pub fn get(self, key: &str) -> Option<&'a Value> {
        self.0.get(key).filter(|value| !value.is_null())
    }

    /// Whether a field says anything: it is neither false nor empty.
    pub fn sets(self, key: &str) -> bool {
        self.get(key).is_some_and(|v| *v != Value::Bool(false) && !is_empty(v))
    }

    /// A number.
    pub fn number(self, key: &str) -> Result<Option<f64>> {
        self.read(key, "a number", as_number)
    }

    /// A whole number above 0.
    pub fn count(self, key: &str) -> Result<Option<u64>> {
        self.read(key, "a whole number above 0", |v| v.as_u64().filter(|n| *n > 0))
    }

    /// True or false; false if it is not there.
    pub fn flag(self, key: &str) -> Result<bool> {
        Ok(self.read(key, "true or false", Value::as_bool)?.unwrap_or(false))
    }

    /// A text.
    pub fn text(self, key: &str) -> Result<Option<String>> {
        self.read(key, "a string", |v| json::text(v).map(str::to_owned))
    }

    /// A selection of modules.
    pub fn modules(self, key: &str) -> Result<Modules> {
        match self.get(key) {
            None => Ok(Modules::None),
            Some(Value::Array(items)) => {
                let name = |i: &Value| {
                    let name = json::text(i).map(str::to_owned);
                    name.ok_or_else(|| bad(format!("{key} holds {}, expected names", show(i))))
                };
                items.iter().map(name).collect::<Result<_>>().map(Modules::List)
            }
            Some(other) => match json::text(other) {
                Some(name) => Ok(Modules::Regex(name.to_owned())),
                None => Err(bad(format!("{key} is {}, expected a name or a list of names", show(other)))),
            },
        }
    }

    /// A table of numbers above 0 by pattern, in the order of the file.
    pub fn pattern(self, key: &str) -> Result<Vec<(String, f64)>> {
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Object(entries)) => entries
                .iter()
                .map(|(k, v)| match as_number(v).filter(|n| n.is_finite() && *n > 0.0) {
                    Some(n) => Ok((k.clone(), n)),
                    None => Err(bad(format!("{key} gives {} for {k}, expected a number above 0", show(v)))),
                })
                .collect(),
            Some(other) => Err(bad(format!("{key} is {}, expected an object", show(other)))),
        }
    }

    fn read<T>(self, key: &str, expected: &str, read: impl Fn(&'a Value) -> Option<T>) -> Result<Option<T>> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let wrong = || bad(format!("{key} is {}, expected {expected}", show(value)));
        read(value).map(Some).ok_or_else(wrong)
    }
}

/// A configuration that is wrong.
pub fn bad(message: impl Into<String>) -> Error {
    Error::new(Kind::BadConfig, message)
}

/// A configuration that is understood and cannot be merged.
pub fn unsupported(message: impl Into<String>) -> Error {
    Error::new(Kind::Unsupported, message)
}

fn is_empty(v: &Value) -> bool {
    v.as_array().is_some_and(Vec::is_empty)
        || v.as_object().is_some_and(Map::is_empty)
        || v.as_str().is_some_and(str::is_empty)
}
