//! The kinds of adapters: one file for each PEFT type, and the tables of those that are merged and those that are not.

mod adalora;
mod adapter_kind;
mod beft;
mod bias;
mod boft;
mod c3a;
mod delora;
mod gralora;
mod hira;
mod hra;
mod ia3;
mod ln_tuning;
mod loha;
mod lokr;
mod lora;
mod miss;
mod oft;
mod projections;
mod randlora;
mod refused;
mod shira;
mod trainable_tokens;
mod unilora;
mod vblora;
mod vera;

pub use adapter_kind::{AdapterKind, End, Part, Row};

use super::config::fields::{Fields, bad, unsupported};
use crate::error::Result;
use crate::json::{self, show};

/// The kinds that are merged.
pub static KINDS: [&Row; 22] = [
    &lora::ROW,
    &adalora::ROW,
    &loha::ROW,
    &lokr::ROW,
    &oft::ROW,
    &boft::ROW,
    &hra::ROW,
    &miss::ROW,
    &hira::ROW,
    &delora::ROW,
    &gralora::ROW,
    &c3a::ROW,
    &ia3::ROW,
    &vera::ROW,
    &vera::PVERA_ROW,
    &randlora::ROW,
    &shira::ROW,
    &vblora::ROW,
    &unilora::ROW,
    &beft::ROW,
    &ln_tuning::ROW,
    &trainable_tokens::ROW,
];

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
    Err(refused::refusal(name).unwrap_or_else(|| unsupported(format!("peft_type {name} is not known"))))
}

/// The kind that a component of a key belongs to, if it is not `own`.
pub fn foreign(component: &str, own: &Row) -> Option<&'static str> {
    if own.has_part(component) {
        return None;
    }
    let has =
        |row: &Row| row.parts.iter().map(|part| part.marker).chain(row.shared.iter().copied()).any(|m| m == component);
    KINDS.into_iter().find(|row| has(row)).map(|row| row.name).or_else(|| refused::of_key(component))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_has_one_name() {
        for row in KINDS {
            let names: std::collections::BTreeSet<_> = row.parts.iter().map(|part| part.name).collect();
            assert_eq!(names.len(), row.parts.len(), "{}", row.peft_type);
        }
    }

    #[test]
    fn a_key_of_another_kind_names_it() {
        for (own, component, name) in [
            ("LORA", "shira_indices", Some("SHiRA")),
            ("LORA", "randlora_B", Some("RandLora")),
            ("LORA", "hra_u", Some("HRA")),
            ("LORA", "vblora_logits_A_topk_indices", Some("VB-LoRA")),
            ("LORA", "unilora_theta_d", Some("Uni-LoRA")),
            ("SHIRA", "fourierft_spectrum", Some("FourierFT")),
            ("SHIRA", "shira_indices", None),
        ] {
            let own = KINDS.into_iter().find(|row| row.peft_type == own).unwrap();
            assert_eq!(foreign(component, own), name, "{component} in {}", own.name);
        }
    }
}
