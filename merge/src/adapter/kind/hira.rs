//! HIRA: a low-rank delta that is multiplied by the weight, `W + W ∘ (B @ A)` (Huang et al. 2025, ICLR; PEFT's `HiraLayer`).
//!
//! | part | key, without `.weight` | shape |
//! |---|---|---|
//! | `hira_A`, `hira_B` | `hira_A`, `hira_B` | [r, in, *kernel], [out, r, 1...] |
//! | `hira_embedding_A`, `hira_embedding_B` | the same | [r, tokens], [dim, r] |
//!
//! There is no scale. Of several adapters each is multiplied by the weight that stands, as if it was trained on that.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use super::lora::pair::Pair;
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

const A: &str = "hira_A";
const B: &str = "hira_B";
const EMBEDDING_A: &str = "hira_embedding_A";
const EMBEDDING_B: &str = "hira_embedding_B";

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "HIRA",
    name: "HiRA",
    keys: &["hira_dropout", "init_weights", "r", "rank_pattern", "runtime_config"],
    parts: &[
        Part { name: A, marker: A, end: End::Any },
        Part { name: B, marker: B, end: End::Any },
        Part { name: EMBEDDING_A, marker: EMBEDDING_A, end: End::Any },
        Part { name: EMBEDDING_B, marker: EMBEDDING_B, end: End::Any },
    ],
    shared: &[],
    may_be_empty: false,
    ignored: &[],
    parse: |fields| {
        Ok(Arc::new(Hira { r: fields.count("r")?.unwrap_or(32), pattern: fields.pattern("rank_pattern")? }))
    },
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct Hira {
    r: u64,
    /// PEFT 0.21 reads it and makes all ranks `r`; another release may follow it. There is no scale, so either merges the same.
    pattern: Vec<(String, f64)>,
}

impl Hira {
    /// Refuses a rank that the configuration has nowhere.
    fn check(&self, a: &Source) -> Result<u64> {
        let held = a.shape[0];
        if held == self.r || self.pattern.iter().any(|(_, r)| *r == held as f64) {
            return Ok(held);
        }
        let text = format!("{} has rank {held} (shape {:?}), adapter_config.json says r = {}", a.name, a.shape, self.r);
        Err(Error::new(Kind::RankMismatch, text))
    }
}

impl AdapterKind for Hira {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("r", self.r.into())]
    }

    fn edits(&self, modules: &[Module<'_>], _: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let pair = Pair::of(module, [A, B, EMBEDDING_A, EMBEDDING_B])?;
            module.expect_values()?;
            let dims = pair.dims()?;
            let rank = self.check(pair.a)?;
            let delta = Delta {
                factors: Factors::LowRank { a: pair.a.clone(), b: pair.b.clone(), inner: None },
                dims,
                embedding: pair.embedding,
                rank,
                scale: 1.0,
                magnitude: None,
                of_weight: true,
            };
            out.edits.push(module.edit(Change::delta(delta)));
        }
        Ok(())
    }
}
