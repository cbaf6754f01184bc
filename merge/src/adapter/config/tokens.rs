//! Which token rows an adapter carries.

use std::sync::Arc;

use serde_json::Value;

use super::fields::{Fields, bad};
use crate::error::Result;
use crate::json::show;

/// Which token rows an adapter carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tokens {
    /// None.
    None,
    /// Rows of the input embedding.
    Input(Arc<[u64]>),
    /// Rows of named layers.
    ByLayer(Vec<(String, Arc<[u64]>)>),
}

impl Tokens {
    /// Reads a list of token ids, or an object with such a list for each layer.
    ///
    /// # Errors
    /// `bad_config` for what is neither, and for an id that is named twice.
    pub fn read(fields: Fields<'_>, key: &str) -> Result<Tokens> {
        match fields.get(key) {
            None => Ok(Tokens::None),
            Some(Value::Array(items)) if items.is_empty() => Ok(Tokens::None),
            Some(Value::Array(items)) => ids(items, key).map(Tokens::Input),
            Some(Value::Object(layers)) => layers
                .iter()
                .map(|(layer, v)| {
                    let of = format!("{key}.{layer}");
                    let items = v.as_array().ok_or_else(|| bad(format!("{of} is not a list of token ids")))?;
                    Ok((layer.clone(), ids(items, &of)?))
                })
                .collect::<Result<_>>()
                .map(Tokens::ByLayer),
            Some(other) => Err(bad(format!("{key} is {}, expected a list or an object of lists", show(other)))),
        }
    }
}

fn ids(items: &[Value], of: &str) -> Result<Arc<[u64]>> {
    let id =
        |i: &Value| i.as_u64().ok_or_else(|| bad(format!("{of} holds {}, expected token ids of 0 and above", show(i))));
    let ids: Vec<u64> = items.iter().map(id).collect::<Result<_>>()?;
    let mut sorted = ids.clone();
    sorted.sort_unstable();
    match sorted.windows(2).find(|w| w[0] == w[1]) {
        Some(twice) => Err(bad(format!("{of} names token {} twice", twice[0]))),
        None => Ok(ids.into()),
    }
}
