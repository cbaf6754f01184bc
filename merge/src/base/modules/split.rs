//! Parameters that a checkpoint stores in one tensor, and the model holds apart.

use fancy_regex::Regex;

use super::run::{Order, Run};
use super::scope::Scope;

/// How a stored tensor becomes several parameters, each with some of its rows.
#[derive(Debug)]
pub struct Split {
    pub(super) scope: Scope,
    /// What matches the name of the stored tensor.
    pub(super) from: Regex,
    /// What replaces the match, for each parameter.
    pub(super) into: Vec<String>,
    /// In which order the tensor has the rows of the parameters.
    pub(super) order: Order,
    /// Whether the tensor is [experts, rows, columns], and the rows of each expert are so (`Chunk(dim=1)`).
    pub experts: bool,
    /// Whether columns and rows are the other way round than in the parameter [`Transpose(1, 2)`].
    pub transposed: bool,
}

impl Split {
    /// The names of the parameters; `None` if a tensor of this name is not one of these.
    pub fn parts(&self, name: &str) -> Option<Vec<String>> {
        let (prefix, rest) = self.scope.within(name)?;
        let found = self.from.find(rest).ok()??.as_str();
        Some(self.into.iter().map(|into| format!("{prefix}{}", rest.replacen(found, into, 1))).collect())
    }

    /// How many parts there are.
    pub fn count(&self) -> u64 {
        self.into.len() as u64
    }

    /// Where the rows of a part lie in a stored tensor of so many rows; `None` if it has no such parts.
    pub fn runs(&self, part: usize, rows: u64) -> Option<Vec<Run>> {
        self.order.runs(part, self.into.len(), rows)
    }

    /// Whether the parts lie one after another as they are.
    pub fn is_plain(&self) -> bool {
        matches!(self.order, Order::Parts | Order::Shares(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_tensor_has_a_name_for_each_part() {
        let into = ["attention.q_proj", "attention.k_proj"].map(str::to_owned).to_vec();
        let from = Regex::new(r"attn\.qkv(?!\w)").unwrap();
        let split = Split {
            scope: (&["vision.", ""][..]).into(),
            from,
            into,
            order: Order::Parts,
            experts: false,
            transposed: false,
        };
        let parts = split.parts("vision.layer.3.attn.qkv.weight").unwrap();
        assert_eq!(parts, ["vision.layer.3.attention.q_proj.weight", "vision.layer.3.attention.k_proj.weight"]);
        assert_eq!(split.parts("layer.3.attn.qkv_norm.weight"), None);
    }
}
