//! The merge spec itself.

use serde::{Deserialize, Serialize};

use super::{
    BaseAs, BaseIndex, Card, Combine, Digests, ExpertOrder, OutputDtype, Quantised, Rounding, StoreCopies, Tokenizer,
};
use crate::recipe::DoraNorm;
use crate::statistic::survival;
use crate::tensor::{Dtype, DtypeExt};

/// An adapter and its weight.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoraSpec {
    /// The adapter's folder.
    pub path: String,
    /// Multiplies the scale of each of its deltas.
    pub weight: f64,
}

impl LoraSpec {
    /// An adapter with the weight 1.
    pub fn new(path: impl Into<String>) -> LoraSpec {
        LoraSpec { path: path.into(), weight: 1.0 }
    }
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
    /// What becomes of the quantised parameters of the base.
    #[serde(default, skip_serializing_if = "Quantised::is_default")]
    pub quantised: Quantised,
    /// How much of a delta has to survive where a weight is encoded again: the least cosine of what is left of it with the wanted
    /// one; `None` is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub survival: Option<f64>,
    /// How the base was quantised while the adapters were trained; `None` if it was not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base_as: Option<BaseAs>,
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
    /// When the sum is rounded.
    #[serde(default, skip_serializing_if = "Rounding::is_default")]
    pub rounding: Rounding,
    /// The order of experts in the adapters' tensors: one for all, or one for each; none is the default.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expert_order: Vec<ExpertOrder>,
    /// How several adapters are put together.
    #[serde(default, skip_serializing_if = "Combine::is_default")]
    pub combine: Combine,
    /// The share of values that a pruning combination keeps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub density: Option<f64>,
    /// Whether the store copies bytes that do not change.
    #[serde(default, skip_serializing_if = "StoreCopies::is_default")]
    pub store_copies: StoreCopies,
    /// Which digests the manifest has.
    #[serde(default, skip_serializing_if = "Digests::is_default")]
    pub digests: Digests,
    /// Where the digests of the base's bytes lie.
    #[serde(default, skip_serializing_if = "BaseIndex::is_default")]
    pub base_index: BaseIndex,
    /// Whose tokenizer.
    #[serde(default)]
    pub tokenizer: Tokenizer,
    /// Whether the output gets a model card.
    #[serde(default, skip_serializing_if = "Card::is_default")]
    pub card: Card,
    /// Whether input and output embedding are one tensor, where neither config.json nor the class tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tied: Option<bool>,
    /// The class of the output, where an adapter brings a head that the base lacks and its task does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub architecture: Option<String>,
    /// Weight files in the adapters' folders whose tensors replace those of the base. Names below the folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extra_weights: Vec<String>,
    /// Files in the folders of base and adapters that are left out. Names below the folder; one that ends in `/` is all files
    /// of a folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_files: Vec<String>,
}

/// The default size of a part.
pub const DEFAULT_PART_SIZE: u64 = 64 << 20;
/// The most parts that a store takes for one object (S3's limit).
pub const MAX_PARTS: u64 = 10_000;

impl MergeSpec {
    /// A merge of adapters into a base, with the default of every option.
    pub fn of(
        base: impl Into<String>,
        lora: impl IntoIterator<Item = LoraSpec>,
        output: impl Into<String>,
    ) -> MergeSpec {
        MergeSpec {
            base: base.into(),
            lora: lora.into_iter().collect(),
            output: output.into(),
            dtype: OutputDtype::default(),
            quantised: Quantised::default(),
            survival: None,
            base_as: None,
            max_shard_size: None,
            part_size: DEFAULT_PART_SIZE,
            dora_norm: DoraNorm::default(),
            partial_weight: false,
            rounding: Rounding::default(),
            expert_order: Vec::new(),
            combine: Combine::default(),
            density: None,
            store_copies: StoreCopies::default(),
            digests: Digests::default(),
            base_index: BaseIndex::default(),
            tokenizer: Tokenizer::default(),
            card: Card::default(),
            tied: None,
            architecture: None,
            extra_weights: Vec::new(),
            ignore_files: Vec::new(),
        }
    }

    /// The order of the experts in the tensors of the adapter at this place of the spec.
    pub fn expert_order_of(&self, adapter: usize) -> ExpertOrder {
        match self.expert_order.as_slice() {
            [all] => *all,
            each => each.get(adapter).copied().unwrap_or_default(),
        }
    }

    /// The least cosine that `survival` stands for.
    pub fn least_survival(&self) -> f64 {
        self.survival.unwrap_or(survival::LIMIT)
    }

    /// What `--dtype` makes of a tensor of the base's main float dtype.
    pub fn output_dtype(&self, base: Dtype, main: Option<Dtype>) -> Dtype {
        match self.dtype.dtype() {
            Some(dtype) if Some(base) == main && base.floating() => dtype,
            _ => base,
        }
    }
}
