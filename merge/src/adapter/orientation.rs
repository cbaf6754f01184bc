//! Whether an adapted weight is stored as `[in, out]`.
//!
//! For a model type that is known, its layers' types decide ([`Conv1d`]), never `fan_in_fan_out` and never the shape. Code
//! of its own (Jais, BTLM) uses transformers' `Conv1D` as well. There PEFT has written `fan_in_fan_out: true`, and shapes
//! decide: the weight's own, or for a square weight those of its block.

use std::collections::HashMap;

use crate::base::conv1d::Conv1d;
use crate::error::{Error, Kind, Result};

/// Last parts of names whose output is never narrower than their input, wherever they occur.
const WIDENING: [&str; 2] = ["c_attn", "c_fc"];

/// What one adapter's linear weights look like in a base.
#[derive(Debug, Default)]
pub struct Orientation {
    /// By block; `None` where the model's type decides.
    votes: Option<HashMap<String, Votes>>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Votes {
    straight: bool,
    transposed: bool,
}

/// A module with the shape `[out, in]` of its delta and the shape of its weight.
pub type Target<'a> = (&'a str, [u64; 2], &'a [u64]);

impl Orientation {
    /// The model's type decides.
    pub fn by_type() -> Orientation {
        Orientation::default()
    }

    /// Shapes decide: those of the adapter's targets, and of the base's tensors (name and shape).
    pub fn by_shapes<'a>(
        targets: impl Iterator<Item = Target<'a>>,
        base: impl Iterator<Item = (&'a str, &'a [u64])>,
    ) -> Orientation {
        let mut votes: HashMap<String, Votes> = HashMap::new();
        let mut vote = |module: &str, transposed: bool| {
            let Some(block) = block(module) else { return };
            let votes = votes.entry(block.to_owned()).or_default();
            votes.transposed |= transposed;
            votes.straight |= !transposed;
        };
        for (module, [out, inn], weight) in targets.filter(|(_, [out, inn], _)| out != inn) {
            match *weight {
                [a, b] if (a, b) == (out, inn) => vote(module, false),
                [a, b] if (a, b) == (inn, out) => vote(module, true),
                _ => {}
            }
        }
        for (name, shape) in base {
            let Some(module) = name.strip_suffix(".weight") else { continue };
            let last = module.rsplit('.').next().unwrap_or(module);
            match *shape {
                [a, b] if a != b && WIDENING.contains(&last) => vote(module, a < b),
                _ => {}
            }
        }
        Orientation { votes: Some(votes) }
    }

    /// Whether the weight of a module is stored as `[in, out]`.
    ///
    /// # Errors
    /// If only shapes could tell, and they do not.
    pub fn transposed(&self, conv1d: &Conv1d, (module, [out, inn], weight): Target<'_>) -> Result<bool> {
        let Some(votes) = &self.votes else { return Ok(conv1d.is(module)) };
        if out != inn {
            return Ok(*weight == [inn, out]);
        }
        match block(module).and_then(|b| votes.get(b)).copied().unwrap_or_default() {
            Votes { straight: false, transposed: true } => Ok(true),
            Votes { straight: true, transposed: false } => Ok(false),
            Votes { .. } => Err(Error::new(
                Kind::Unsupported,
                format!(
                    "adapter_config.json says fan_in_fan_out, {module} is square ({weight:?}), and neither the model type nor the shapes of its block tell whether the weight is stored as [in, out]"
                ),
            )
            .hint("merge this adapter with PEFT's merge_and_unload, which has the model's code")),
        }
    }
}

/// The path of a module's block: up to the last number in it.
fn block(module: &str) -> Option<&str> {
    let mut end = 0;
    let mut block = None;
    for part in module.split('.') {
        end += part.len();
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            block = Some(&module[..end]);
        }
        end += 1;
    }
    block
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const SQUARE: Target<'_> = ("h.0.attn.c_proj", [32, 32], &[32, 32]);

    fn by_base(base: &[(&str, &[u64])]) -> Result<bool> {
        let orientation = Orientation::by_shapes([SQUARE].into_iter(), base.iter().copied());
        orientation.transposed(&Conv1d::of(&json!({"model_type": "jais"})), SQUARE)
    }

    #[test]
    fn a_square_weight_is_stored_as_its_block_shows() {
        assert!(by_base(&[("h.0.attn.c_attn.weight", &[32, 96])]).unwrap());
        assert!(!by_base(&[("h.0.attn.c_attn.weight", &[96, 32])]).unwrap());
        assert!(by_base(&[("h.0.mlp.c_fc.weight", &[32, 128])]).unwrap());
    }

    #[test]
    fn a_block_that_shows_nothing_or_both_is_refused() {
        let nothing: [&[(&str, &[u64])]; 4] = [
            &[],
            &[("h.0.attn.c_attn.weight", &[32, 32])],
            &[("h.1.attn.c_attn.weight", &[32, 96])],
            &[("h.0.attn.c_attn.weight", &[32, 96]), ("h.0.mlp.c_fc.weight", &[128, 32])],
        ];
        for base in nothing {
            let error = by_base(base).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(error.message().contains("h.0.attn.c_proj"), "{error}");
        }
    }

    #[test]
    fn the_adapters_other_targets_of_the_block_tell_too() {
        let conv1d = Conv1d::of(&json!({"model_type": "jais"}));
        for (weight, expected) in [([32u64, 64], true), ([64, 32], false)] {
            let other: Target<'_> = ("h.0.mlp.up", [64, 32], &weight);
            let orientation = Orientation::by_shapes([SQUARE, other].into_iter(), std::iter::empty());
            assert_eq!(orientation.transposed(&conv1d, SQUARE).unwrap(), expected);
            assert_eq!(orientation.transposed(&conv1d, other).unwrap(), expected, "its own shape tells");
        }
    }

    #[test]
    fn a_known_type_decides_alone() {
        let gpt2 = Conv1d::of(&json!({"model_type": "gpt2"}));
        assert!(Orientation::by_type().transposed(&gpt2, SQUARE).unwrap());
        let llama = Conv1d::of(&json!({"model_type": "llama"}));
        assert!(!Orientation::by_type().transposed(&llama, SQUARE).unwrap());
    }

    #[test]
    fn a_block_ends_at_the_last_number() {
        assert_eq!(block("transformer.h.12.attn.c_attn"), Some("transformer.h.12"));
        assert_eq!(block("m.layers.3.experts.7.up"), Some("m.layers.3.experts.7"));
        assert_eq!(block("lm_head"), None);
    }
}
