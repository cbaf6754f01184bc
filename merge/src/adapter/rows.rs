//! Trainable tokens: whole rows of an embedding, which any kind of adapter may carry.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use super::config::AdapterConfig;
use super::config::tokens::Tokens;
use super::edit::{Change, Edit, Resolved};
use super::module::locate;
use super::suffix::suffixes;
use crate::base::names::Names;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// Adds the edits of an adapter's token rows; `found` holds the module and the tensor of each.
///
/// # Errors
/// If rows are there that the configuration does not name, or the other way round.
pub(super) fn edits(
    config: &AdapterConfig,
    found: &[(Cow<'_, str>, &Source)],
    base: &Names<'_>,
    out: &mut Resolved,
    unmatched: &mut Vec<String>,
) -> Result<()> {
    if found.is_empty() && config.tokens != Tokens::None {
        return Err(Error::new(
            Kind::MissingTensor,
            "adapter_config.json names trainable tokens, and the adapter holds no trainable_tokens_delta",
        ));
    }
    let layers = Layers::of(&config.tokens);
    for (module, source) in found {
        let Some(indices) = layers.indices(module, base) else {
            return Err(Error::new(
                Kind::BadConfig,
                format!("{} holds token rows, and adapter_config.json does not say which", source.name),
            ));
        };
        if source.shape.len() != 2 || source.shape[0] != indices.len() as u64 {
            let (name, shape, count) = (&source.name, &source.shape, indices.len());
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!("{name} has shape {shape:?}, adapter_config.json names {count} tokens"),
            ));
        }
        match locate(module, "weight", false, base) {
            Some((tensor, module)) => {
                let change = Change::Rows { rows: indices.to_vec(), source: (*source).clone() };
                out.edits.push(Edit { tensor, rows: None, module, change });
            }
            None => unmatched.push(source.name.clone()),
        }
    }
    Ok(())
}

/// Token ids by layer.
struct Layers<'a> {
    tokens: &'a Tokens,
    /// The place of each layer in the list of layers.
    by_layer: HashMap<&'a str, usize>,
}

impl<'a> Layers<'a> {
    fn of(tokens: &'a Tokens) -> Self {
        let mut by_layer: HashMap<&str, usize> = HashMap::new();
        if let Tokens::ByLayer(layers) = tokens {
            for (number, (layer, _)) in layers.iter().enumerate() {
                by_layer.entry(layer).or_insert(number);
            }
        }
        Layers { tokens, by_layer }
    }

    /// The ids of a module's rows.
    fn indices(&self, module: &str, base: &Names<'_>) -> Option<&'a Arc<[u64]>> {
        let layers = match self.tokens {
            Tokens::None => return None,
            Tokens::Input(ids) => return Some(ids),
            Tokens::ByLayer(layers) => layers,
        };
        if let Some(number) = suffixes(module).filter_map(|name| self.by_layer.get(name)).min() {
            return Some(&layers[*number].1);
        }
        // Another name of the same parameter carries its rows under its own name.
        match layers.as_slice() {
            [(_, ids)] if base.is_tied(&format!("{module}.weight")) => Some(ids),
            _ => None,
        }
    }
}
