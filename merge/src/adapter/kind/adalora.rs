//! ADALORA: a low-rank delta with a value for each rank, `lora_alpha / (init_r + 1e-5) * B @ diag(E) @ A` (Zhang et al. 2023,
//! arXiv:2303.10512; PEFT's `SVDLinear`).
//!
//! | part | key, without `.weight` | shape |
//! |---|---|---|
//! | `lora_A` | `lora_A` | [k, in] |
//! | `lora_E` | `lora_E` | [k, 1] |
//! | `lora_B` | `lora_B` | [out, k] |
//!
//! `k` is the rank that training kept for the module; a module that kept none changes nothing. `r` and the boolean
//! `rank_pattern` play no part in the scale.

use std::sync::Arc;

use serde_json::Value;

use super::adapter_kind::{AdapterKind, End, Part, Row};
use super::lora::variants;
use crate::adapter::config::fields::{Fields, bad, unsupported};
use crate::adapter::config::tokens::Tokens;
use crate::adapter::delta::{Delta, Factors};
use crate::adapter::edit::{Change, Resolved};
use crate::adapter::module::Module;
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};

const A: &str = "lora_A";
const B: &str = "lora_B";
const E: &str = "lora_E";
/// What PEFT adds to the rank before it divides.
const EPSILON: f64 = 1e-5;

/// The PEFT type.
pub static ROW: Row = Row {
    peft_type: "ADALORA",
    name: "AdaLoRA",
    keys: &[
        "alpha_pattern",
        "beta1",
        "beta2",
        "deltaT",
        "init_lora_weights",
        "init_r",
        "layer_replication",
        "loftq_config",
        "lora_alpha",
        "lora_dropout",
        "megatron_config",
        "megatron_core",
        "orth_reg_weight",
        "r",
        "rank_pattern",
        "runtime_config",
        "target_r",
        "tfinal",
        "tinit",
        "total_step",
        "use_dora",
        "use_rslora",
    ],
    parts: &[
        Part { name: A, marker: A, end: End::Any },
        Part { name: B, marker: B, end: End::Any },
        Part { name: E, marker: E, end: End::Any },
    ],
    shared: &[],
    may_be_empty: true,
    ignored: &[("ranknum", "the configuration tells the rank")],
    parse: |fields| Ok(Arc::new(AdaLora::parse(fields)?)),
    tokens: |_| Ok(Tokens::None),
};

/// The settings of one adapter.
#[derive(Debug)]
struct AdaLora {
    alpha: f64,
    init_r: u64,
}

impl AdaLora {
    fn parse(fields: Fields<'_>) -> Result<AdaLora> {
        variants::refuse(fields)?;
        if fields.sets("use_dora") {
            return Err(unsupported("adapter_config.json sets use_dora, which AdaLoRA does not have"));
        }
        let alpha = fields.number("lora_alpha")?.unwrap_or(8.0);
        if !alpha.is_finite() {
            return Err(bad(format!("lora_alpha is {alpha}")));
        }
        Ok(AdaLora { alpha, init_r: fields.count("init_r")?.unwrap_or(12) })
    }

    fn scale(&self) -> f64 {
        self.alpha / (self.init_r as f64 + EPSILON)
    }
}

impl AdapterKind for AdaLora {
    fn row(&self) -> &'static Row {
        &ROW
    }

    fn settings(&self) -> Vec<(&'static str, Value)> {
        vec![("init_r", self.init_r.into()), ("lora_alpha", self.alpha.into())]
    }

    fn edits(&self, modules: &[Module<'_>], _: &Names<'_>, effort: &mut Effort, out: &mut Resolved) -> Result<()> {
        for module in modules {
            effort.check()?;
            let [a, b, e] = module.all_of([A, B, E])?;
            let ([k, inputs], [outputs, rank]) = (&a.shape[..], &b.shape[..]) else {
                let text =
                    format!("{} has shape {:?} and {} {:?}, expected matrices", a.name, a.shape, b.name, b.shape);
                return Err(Error::new(Kind::ShapeMismatch, text));
            };
            if k != rank || e.elements() != *k {
                return Err(Error::new(
                    Kind::RankMismatch,
                    format!(
                        "{} has rank {k} (shape {:?}), {} has rank {rank} (shape {:?}), {} has {} values",
                        a.name,
                        a.shape,
                        b.name,
                        b.shape,
                        e.name,
                        e.elements()
                    ),
                ));
            }
            if *k == 0 {
                let why = "training kept no rank for this module";
                out.ignored.extend([a, b, e].map(|part| (part.name.clone(), why.to_owned())));
                continue;
            }
            module.expect_values()?;
            let factors = Factors::LowRank { a: a.clone(), b: b.clone(), inner: Some(e.clone()) };
            let delta = Delta::plain(factors, [*outputs, *inputs], *k, self.scale());
            out.edits.push(module.edit(Change::delta(delta)));
        }
        Ok(())
    }
}
