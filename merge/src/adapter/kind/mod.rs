//! The kinds of adapters: one file for each PEFT type, and the tables of those that are merged and those that are not.

mod adalora;
mod adapter_kind;
mod ia3;
mod ln_tuning;
mod loha;
mod lora;
mod trainable_tokens;
mod vera;

pub use adapter_kind::{AdapterKind, End, Part, Row};

use super::config::fields::{Fields, bad, unsupported};
use crate::error::Result;
use crate::json::{self, show};

/// The kinds that are merged.
pub static KINDS: [&Row; 7] =
    [&lora::ROW, &adalora::ROW, &loha::ROW, &ia3::ROW, &vera::ROW, &ln_tuning::ROW, &trainable_tokens::ROW];

/// A kind that has a merged weight and is not merged yet.
struct Later {
    peft_type: &'static str,
    name: &'static str,
    /// Components of its keys. One that ends in `_` stands for all that begin with it.
    markers: &'static [&'static str],
}

const LATER: [Later; 9] = [
    Later { peft_type: "LOKR", name: "LoKr", markers: &["lokr_"] },
    Later { peft_type: "OFT", name: "OFT", markers: &["oft_R", "oft_r", "oft_embedding_R", "oft_s"] },
    Later { peft_type: "BOFT", name: "BOFT", markers: &["boft_R", "boft_s"] },
    Later { peft_type: "HRA", name: "HRA", markers: &[] },
    Later { peft_type: "FOURIERFT", name: "FourierFT", markers: &[] },
    Later { peft_type: "VBLORA", name: "VB-LoRA", markers: &[] },
    Later { peft_type: "RANDLORA", name: "RandLora", markers: &[] },
    Later { peft_type: "BONE", name: "Bone", markers: &[] },
    Later { peft_type: "MISS", name: "MiSS", markers: &[] },
];

/// Kinds that work in the prompt or in the forward pass: there is nothing to merge.
const NEVER: [&str; 8] = [
    "PROMPT_TUNING",
    "MULTITASK_PROMPT_TUNING",
    "P_TUNING",
    "PREFIX_TUNING",
    "ADAPTION_PROMPT",
    "CPT",
    "XLORA",
    "POLY",
];

/// Components of keys that belong to no PEFT type of their own, and what they are.
const FOREIGN: [(&str, &str); 2] = [("lora_diag", "KaSA"), ("prompt_embeddings", "a prompt")];

/// The kind that a configuration names.
///
/// # Errors
/// `bad_config` if it names none, `unsupported` if it is not merged.
pub fn of(fields: Fields<'_>) -> Result<&'static Row> {
    let name = match fields.0.get("peft_type") {
        Some(value) => {
            json::text(value).ok_or_else(|| bad(format!("peft_type is {}, expected a string", show(value))))?
        }
        None => return Err(bad("adapter_config.json has no peft_type").hint("is this folder a PEFT adapter?")),
    };
    if let Some(row) = KINDS.into_iter().find(|row| row.peft_type == name) {
        return Ok(row);
    }
    Err(if LATER.iter().any(|later| later.peft_type == name) {
        unsupported(format!("peft_type {name} is not supported yet"))
            .hint("merge this adapter with PEFT's merge_and_unload")
    } else if NEVER.contains(&name) {
        unsupported(format!(
            "peft_type {name} has no merged weight: it works in the forward pass, so there is nothing to merge"
        ))
    } else {
        unsupported(format!("peft_type {name} is not known"))
    })
}

/// The kind that a component of a key belongs to, if it is not `own`.
pub fn foreign(component: &str, own: &Row) -> Option<&'static str> {
    if own.parts.iter().any(|part| part.marker == component) {
        return None;
    }
    let is = |marker: &&str| *marker == component || marker.ends_with('_') && component.starts_with(*marker);
    let has = |row: &Row| row.parts.iter().map(|part| &part.marker).chain(row.shared).any(is);
    let merged = || KINDS.into_iter().find(|row| has(row)).map(|row| row.name);
    let later = LATER.iter().find(|later| later.markers.iter().any(&is)).map(|later| later.name);
    later.or_else(merged).or_else(|| FOREIGN.iter().find(|(marker, _)| is(marker)).map(|(_, name)| *name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::config::AdapterConfig;
    use crate::error::Kind;

    #[test]
    fn kinds_without_a_merge_are_refused_by_name() {
        let later = LATER.iter().map(|later| later.peft_type);
        for kind in later.chain(NEVER).chain(["SOMETHING_NEW"]) {
            let e = AdapterConfig::parse(format!(r#"{{"peft_type": "{kind}"}}"#).as_bytes()).unwrap_err();
            assert_eq!(e.kind(), Kind::Unsupported);
            assert!(e.message().contains(kind));
        }
    }

    #[test]
    fn a_kind_is_in_one_table_and_a_part_has_one_name() {
        for row in KINDS {
            let refused = LATER.iter().map(|later| later.peft_type).chain(NEVER);
            assert!(!refused.into_iter().any(|name| name == row.peft_type), "{}", row.peft_type);
            let names: std::collections::BTreeSet<_> = row.parts.iter().map(|part| part.name).collect();
            assert_eq!(names.len(), row.parts.len(), "{}", row.peft_type);
        }
    }
}
