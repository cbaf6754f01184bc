//! `--tokenizer`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Whose tokenizer files go to the output.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokenizer {
    /// Those of the last adapter that carries any, else the base's.
    #[default]
    Auto,
    /// The base's.
    Base,
    /// Another folder's.
    Folder(String),
}

impl fmt::Display for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Tokenizer::Auto => "auto",
            Tokenizer::Base => "base",
            Tokenizer::Folder(url) => url,
        })
    }
}

impl FromStr for Tokenizer {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        let names = [("auto", Tokenizer::Auto), ("base", Tokenizer::Base)];
        let named = names.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text));
        Ok(named.map_or_else(|| Tokenizer::Folder(text.to_owned()), |(_, tokenizer)| tokenizer))
    }
}
