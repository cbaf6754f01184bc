//! `--base-index`.

use std::convert::Infallible;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where the digests of the base's bytes lie.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BaseIndex {
    /// In the base's folder, if there is an index.
    #[default]
    Auto,
    /// Nowhere: an index is not looked for.
    None,
    /// In this file.
    File(String),
}

impl BaseIndex {
    /// Whether it is the default, which stored specs leave out.
    pub(super) fn is_default(&self) -> bool {
        *self == BaseIndex::default()
    }
}

impl fmt::Display for BaseIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BaseIndex::Auto => "auto",
            BaseIndex::None => "none",
            BaseIndex::File(url) => url,
        })
    }
}

impl FromStr for BaseIndex {
    type Err = Infallible;
    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(match text {
            "auto" => BaseIndex::Auto,
            "none" => BaseIndex::None,
            url => BaseIndex::File(url.to_owned()),
        })
    }
}
