//! `--combine` and `--density`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};

/// How several adapters are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// One after another, each with its weight.
    #[default]
    Sequence,
}

impl Combine {
    /// Whether it is the default, which stored specs leave out.
    pub(super) fn is_default(&self) -> bool {
        *self == Combine::default()
    }
}

/// Combinations in weight space or on factors: known by name, and refused until they are exact.
const UNSUPPORTED: [&str; 18] = [
    "linear",
    "cat",
    "ties",
    "magnitude-prune",
    "dare-linear",
    "dare-ties",
    "svd",
    "ties-svd",
    "dare-linear-svd",
    "dare-ties-svd",
    "magnitude-prune-svd",
    "peft-linear",
    "peft-cat",
    "peft-ties",
    "peft-svd",
    "peft-dare-linear",
    "peft-dare-ties",
    "peft-magnitude-prune",
];

impl fmt::Display for Combine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Combine::Sequence => "sequence",
        })
    }
}

impl FromStr for Combine {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "sequence" => Ok(Combine::Sequence),
            _ if UNSUPPORTED.contains(&text.replace('_', "-").as_str()) => {
                Err(Error::new(Kind::Unsupported, format!("{text} is not supported yet, only sequence is"))
                    .hint("the exact weighted sum (PEFT's cat) is a sequence with weights: --lora a=0.5 --lora b=1.25"))
            }
            _ => Err(Error::new(Kind::Usage, format!("{text:?} is unknown, expected sequence"))
                .hint("leave it out for a sequence")),
        }
    }
}
