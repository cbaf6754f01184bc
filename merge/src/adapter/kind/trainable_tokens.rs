//! TRAINABLE_TOKENS: whole rows of an embedding, and nothing else.
//!
//! The rows themselves are read by [`crate::adapter::rows`], since a LoRA may carry some as well.

use std::sync::Arc;

use super::adapter_kind::{AdapterKind, Row};
use crate::adapter::config::fields::Fields;
use crate::adapter::config::modules::Modules;
use crate::adapter::config::tokens::Tokens;
use crate::adapter::edit::Resolved;
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::Result;

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "TRAINABLE_TOKENS",
    name: "trainable tokens",
    keys: &["init_weights", "token_indices"],
    parts: &[],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |_| Ok(Arc::new(TrainableTokens)),
    tokens,
};

/// The kind; it has no settings.
#[derive(Debug)]
struct TrainableTokens;

/// The same rows for every target.
fn tokens(fields: Fields<'_>) -> Result<Tokens> {
    let tokens = Tokens::read(fields, "token_indices")?;
    let Tokens::Input(ids) = &tokens else { return Ok(tokens) };
    Ok(match fields.modules("target_modules")? {
        Modules::List(layers) => Tokens::ByLayer(layers.into_iter().map(|l| (l, ids.clone())).collect()),
        Modules::Regex(layer) => Tokens::ByLayer(vec![(layer, ids.clone())]),
        Modules::None => tokens,
    })
}

impl AdapterKind for TrainableTokens {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn edits(&self, _: &[Module<'_>], _: &Names<'_>, _: &mut Effort, _: &mut Resolved) -> Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::config::AdapterConfig;

    #[test]
    fn trainable_tokens_are_a_kind_with_rows_by_layer() {
        let json = br#"{"peft_type": "TRAINABLE_TOKENS", "target_modules": ["a", "b"], "token_indices": [7]}"#;
        let config = AdapterConfig::parse(json).unwrap();
        assert_eq!(config.kind.row().peft_type, "TRAINABLE_TOKENS");
        assert_eq!(config.tokens, Tokens::ByLayer(vec![("a".into(), [7].into()), ("b".into(), [7].into())]));
    }
}
