//! What the user asked for: URLs and choices that decide the output's bytes. No endpoint, no secret, no memory size.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Kind, Result};
use crate::limits::MAX_PART;
use crate::recipe::DoraNorm;
use crate::tensor::{Dtype, DtypeExt};

/// An adapter and its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraSpec {
    /// The adapter's folder.
    pub path: String,
    /// Multiplies the scale of each of its deltas.
    pub weight: f64,
}

/// The output's element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OutputDtype {
    /// Each tensor keeps the base's.
    #[default]
    Keep,
    /// bfloat16.
    Bf16,
    /// float16.
    F16,
    /// float32.
    F32,
}

impl OutputDtype {
    /// The dtype that the base's main float dtype becomes.
    pub fn dtype(self) -> Option<Dtype> {
        match self {
            OutputDtype::Keep => None,
            OutputDtype::Bf16 => Some(Dtype::BF16),
            OutputDtype::F16 => Some(Dtype::F16),
            OutputDtype::F32 => Some(Dtype::F32),
        }
    }
}

/// Whose tokenizer files go to the output.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tokenizer {
    /// The last adapter's that carries one, else the base's.
    #[default]
    Auto,
    /// The base's.
    Base,
    /// Another folder's.
    Folder(String),
}

/// The merge spec.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MergeSpec {
    /// The base checkpoint's folder.
    pub base: String,
    /// The adapters, in the order in which they apply.
    pub lora: Vec<LoraSpec>,
    /// The output's folder.
    pub output: String,
    /// The output's element type.
    #[serde(default)]
    pub dtype: OutputDtype,
    /// The most tensor bytes in one output file; `None` keeps the base's own layout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_shard_size: Option<u64>,
    /// The size of a part in bytes.
    pub part_size: u64,
    /// What DoRA's norms are taken of.
    #[serde(default)]
    pub dora_norm: DoraNorm,
    /// A weight other than 1 may stand beside replacements, tokens and DoRA, and applies to the low-rank deltas only.
    #[serde(default)]
    pub partial_weight: bool,
    /// Whose tokenizer.
    #[serde(default)]
    pub tokenizer: Tokenizer,
    /// Whether input and output embedding are one tensor, where neither config.json nor the class tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tied: Option<bool>,
    /// Weight files in the adapters' folders whose tensors replace those of the base. Names below the folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_weights: Vec<String>,
    /// Files in the folders of base and adapters that are left out. Names below the folder; one that ends in `/` is all files
    /// of a folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_files: Vec<String>,
}

/// What a spec uses a URL for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The base checkpoint.
    Base,
    /// An adapter.
    Lora,
    /// The folder of the tokenizer.
    Tokenizer,
    /// Where the merge goes.
    Output,
}

impl Purpose {
    /// The name of its field in a spec file and on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Base => "base",
            Purpose::Lora => "lora",
            Purpose::Tokenizer => "tokenizer",
            Purpose::Output => "output",
        }
    }
}

/// The default size of a part.
pub const DEFAULT_PART_SIZE: u64 = 64 << 20;
/// The most parts that a store takes for one object (S3's limit).
pub const MAX_PARTS: u64 = 10_000;

impl MergeSpec {
    /// Checks what can be checked without reading anything.
    pub fn check(&self) -> Result<()> {
        let usage = |m: String| Error::new(Kind::Usage, m);
        if self.lora.is_empty() {
            return Err(usage("no adapter is given".into()).hint("name at least one with --lora PATH"));
        }
        if let Some(lora) = self.lora.iter().find(|l| !l.weight.is_finite()) {
            return Err(usage(format!("the weight of {} is {}", lora.path, lora.weight)));
        }
        if self.part_size < 1024 || !self.part_size.is_power_of_two() {
            return Err(usage(format!("a part of {} bytes is not a power of two of KiB", self.part_size))
                .hint("such as --part-size 64MiB"));
        }
        if self.part_size > MAX_PART {
            return Err(usage(format!(
                "a part of {} bytes is too large, at most {MAX_PART} are taken",
                self.part_size
            )));
        }
        if self.max_shard_size == Some(0) {
            return Err(usage("--max-shard-size is 0".into()));
        }
        for (flag, names) in [("--extra-weights", &self.extra_weights), ("--ignore-file", &self.ignore_files)] {
            let folder = flag == "--ignore-file";
            let leaves = |n: &&String| {
                let name = n.strip_suffix('/').filter(|_| folder).unwrap_or(n);
                name.split('/').any(|part| matches!(part, "" | "." | ".."))
            };
            if let Some(name) = names.iter().find(leaves) {
                return Err(usage(format!("{flag} is {name:?}, expected the name of a file below the input's folder")));
            }
        }
        match self.extra_weights.iter().find(|name| self.ignore_files.contains(name)) {
            Some(both) => Err(usage(format!("{both} is given with --extra-weights and with --ignore-file"))),
            None => Ok(()),
        }
    }

    /// Every URL of the spec: base, adapters, tokenizer, output. The only list of them.
    pub fn places(&self) -> impl Iterator<Item = (Purpose, &str)> {
        let tokenizer = match &self.tokenizer {
            Tokenizer::Folder(url) => Some((Purpose::Tokenizer, url.as_str())),
            Tokenizer::Auto | Tokenizer::Base => None,
        };
        let lora = self.lora.iter().map(|l| (Purpose::Lora, l.path.as_str()));
        let base = std::iter::once((Purpose::Base, self.base.as_str()));
        base.chain(lora).chain(tokenizer).chain([(Purpose::Output, self.output.as_str())])
    }

    /// The same URLs, in the same order, to be rewritten.
    pub fn places_mut(&mut self) -> impl Iterator<Item = (Purpose, &mut String)> {
        let tokenizer = match &mut self.tokenizer {
            Tokenizer::Folder(url) => Some((Purpose::Tokenizer, url)),
            Tokenizer::Auto | Tokenizer::Base => None,
        };
        let lora = self.lora.iter_mut().map(|l| (Purpose::Lora, &mut l.path));
        let base = std::iter::once((Purpose::Base, &mut self.base));
        base.chain(lora).chain(tokenizer).chain([(Purpose::Output, &mut self.output)])
    }

    /// What `--dtype` makes of a tensor of the base's main float dtype.
    pub fn output_dtype(&self, base: Dtype, main: Option<Dtype>) -> Dtype {
        match self.dtype.dtype() {
            Some(dtype) if Some(base) == main && base.floating() => dtype,
            _ => base,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_weight_is_read_back_to_the_last_digit() {
        // If the first is read one unit in the last place off, an interrupted merge with it cannot go on: its spec differs.
        for weight in [1.7815320455759613, 0.1, 1.0 / 3.0, f64::MIN_POSITIVE, f64::MAX] {
            let lora = LoraSpec { path: "/a".into(), weight };
            let stored = serde_json::to_string(&lora).unwrap();
            assert_eq!(serde_json::from_str::<LoraSpec>(&stored).unwrap(), lora, "{stored}");
        }
    }
}
