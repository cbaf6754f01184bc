//! LORA: a low-rank delta `scale * B @ A`, with its variants rsLoRA, DoRA and `lora_bias`.
//!
//! | part | key | shape |
//! |---|---|---|
//! | `lora_A` | `lora_A.weight` | [r, in], convolution [r, in, *kernel] |
//! | `lora_B` | `lora_B.weight` | [out, r], convolution [out, r, 1...] |
//! | `lora_B.bias` | `lora_B.bias` | `[out]`, added with the scale |
//! | `lora_embedding_A`, `lora_embedding_B` | without `.weight` | [r, vocabulary], [width, r] |
//! | `lora_magnitude_vector` | with or without `.weight` | DoRA's magnitude, one for each output |

use std::sync::Arc;

use serde_json::Value;

mod experts;
mod keys;
pub(super) mod pair;
mod square;
pub(super) mod variants;

use super::adapter_kind::{AdapterKind, Row};
use crate::adapter::config::fields::Fields;
use crate::adapter::config::modules::Modules;
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Edit, Resolved, RowRange};
use crate::adapter::module::Module;
use crate::adapter::parameter::Targeted;
use crate::adapter::scale::Ranks;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::Operand;
use keys::{A, B, BIAS, EMBEDDING_A, EMBEDDING_B, KEYS, MAGNITUDE, PARTS};
use pair::Pair;
use square::Square;

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "LORA",
    name: "LoRA",
    keys: &KEYS,
    parts: &PARTS,
    shared: &[],
    may_be_empty: false,
    ignored: &[("lora_monteclora_sampler", TRAINING), ("lora_velora_embed", TRAINING)],
    parse: |fields| Ok(Arc::new(Lora::parse(fields)?)),
    tokens: |fields| Tokens::read(fields, "trainable_token_indices"),
};
const TRAINING: &str = "it only acts in training";

/// The settings of one adapter.
#[derive(Debug)]
struct Lora {
    ranks: Ranks,
    /// Whether every target carries a DoRA magnitude.
    use_dora: bool,
    /// Parameters that are targeted by themselves.
    parameters: Vec<String>,
    /// Which dimension PEFT took for the inputs of a square stacked parameter.
    square: Square,
}

impl Lora {
    fn parse(fields: Fields<'_>) -> Result<Lora> {
        variants::refuse(fields)?;
        let ranks = Ranks { by_root: fields.flag("use_rslora")?, ..Ranks::read(fields, "lora_alpha")? };
        let parameters = match fields.modules("target_parameters")? {
            Modules::List(list) => list,
            Modules::Regex(one) => vec![one],
            Modules::None => Vec::new(),
        };
        let square = Square::of(fields.text("peft_version")?.as_deref());
        Ok(Lora { ranks, use_dora: fields.flag("use_dora")?, parameters, square })
    }
}

impl AdapterKind for Lora {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn title(&self, rescaled: bool) -> &'static str {
        match (rescaled, self.ranks.by_root) {
            (true, _) => "DoRA",
            (false, true) => "rsLoRA",
            (false, false) => "LoRA",
        }
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("r", self.ranks.r.into()),
            ("lora_alpha", self.ranks.alpha.into()),
            ("use_rslora", self.ranks.by_root.into()),
            ("use_dora", self.use_dora.into()),
        ]
    }

    fn ranks(&self) -> Option<&Ranks> {
        Some(&self.ranks)
    }

    fn takes_pieces(&self) -> bool {
        true
    }

    fn parameters(&self) -> &[String] {
        &self.parameters
    }

    fn parameter_edits(&self, targets: &[Targeted<'_>], effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        experts::edits(&self.ranks, self.square, targets, effort, out)
    }

    fn edits(&self, modules: &[Module<'_>], base: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        let scales = self.ranks.scales(modules.iter().map(|m| m.name), effort)?;
        out.edits.reserve(modules.len());
        for (number, module) in modules.iter().enumerate() {
            effort.check()?;
            let pair = Pair::of(module, [A, B, EMBEDDING_A, EMBEDDING_B])?;
            module.expect_values()?;
            let dims = pair.dims()?;
            let rank = pair.a.shape[0];
            let scale = scales.of(number, module.name, (rank, pair.a), out)?;
            let magnitude = self.magnitude(module, out)?;
            if let Some(bias) = module.parts.get(BIAS) {
                let what = if pair.embedding { Some("an embedding") } else { magnitude.map(|_| "DoRA") };
                out.edits.push(bias_edit(module, bias, what, scale, base)?);
            }
            let delta = Delta {
                factors: Factors::LowRank { a: pair.a.clone(), b: pair.b.clone(), inner: None },
                dims,
                embedding: pair.embedding || is_transposed(module, &pair),
                rank,
                scale,
                magnitude: magnitude.cloned().map(Operand::vector),
                of_weight: false,
            };
            out.edits.extend(module.delta(delta)?);
        }
        Ok(())
    }
}

impl Lora {
    /// A module's DoRA magnitude: the tensors tell whether it has one, and the configuration should agree.
    fn magnitude<'a>(&self, module: &Module<'a>, out: &mut Resolved) -> Result<Option<&'a Source>> {
        let magnitude = module.parts.get(MAGNITUDE);
        match (self.use_dora, magnitude) {
            (true, None) => Err(Error::new(
                Kind::MissingTensor,
                format!("use_dora is true, and {} has no lora_magnitude_vector", module.name),
            )
            .hint("the adapter was saved without its magnitudes; save it again with PEFT")),
            (false, Some(m)) => {
                out.warnings.push(format!("{} is there although use_dora is false: merged as DoRA", m.name));
                Ok(magnitude)
            }
            _ => Ok(magnitude),
        }
    }
}

/// Whether a module is an expert that is stored as [in, out].
fn is_transposed(module: &Module<'_>, pair: &Pair<'_>) -> bool {
    let (Some(transposed), Some(RowRange { count, cols, .. })) = (module.expert, module.rows) else { return false };
    let (outputs, inputs) = (pair.b.shape[0], pair.a.shape[1]);
    if count == cols { transposed } else { (inputs, outputs) == (count, cols) }
}

/// The edit that `lora_bias` makes to the base's bias. `refused` names a kind of module that has none.
fn bias_edit(module: &Module<'_>, bias: &Source, refused: Option<&str>, scale: f64, base: &Names<'_>) -> Result<Edit> {
    if let Some(what) = refused {
        return Err(Error::new(Kind::Unsupported, format!("{} is a bias delta of {what}, which has none", bias.name)));
    }
    super::bias::edit(module, bias.clone(), scale, base)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::config::AdapterConfig;

    fn parse(json: &str) -> Result<AdapterConfig> {
        AdapterConfig::parse(json.as_bytes())
    }

    #[test]
    fn a_minimal_old_config_takes_pefts_defaults() {
        let config = parse(r#"{"peft_type": "LORA"}"#).unwrap();
        let ranks = config.kind.ranks().unwrap();
        assert_eq!((ranks.r, ranks.alpha, ranks.by_root), (8, 8.0, false));
        assert_eq!(config.kind.title(false), "LoRA");
    }

    #[test]
    fn a_rank_of_zero_is_a_bad_config() {
        assert_eq!(parse(r#"{"peft_type": "LORA", "r": 0}"#).unwrap_err().kind(), Kind::BadConfig);
    }
}
