//! The kinds that are not merged: why, and what PEFT makes of them.
//!
//! What PEFT can do with each was read in its source (0.21.2): a tuner whose `merge` is there merges with `merge_and_unload`, and one
//! whose `supports_lora_conversion` says so can be saved as a LoRA that is close to it.

use crate::adapter::config::fields::unsupported;
use crate::error::Error;

/// What can be done with an adapter that is not merged here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// PEFT merges it.
    Merge,
    /// PEFT merges it, and saves it as a LoRA.
    MergeOrLora,
    /// An older PEFT merges it.
    Older(&'static str),
    /// It works in the prompt or in the forward pass, so there is nothing to merge.
    Nothing,
}

/// A kind that is not merged.
struct Refused {
    peft_type: &'static str,
    name: &'static str,
    /// How the components of its keys begin.
    markers: &'static [&'static str],
    /// Why it is not merged.
    why: &'static str,
    way: Way,
}

const fn refused(
    peft_type: &'static str,
    name: &'static str,
    markers: &'static [&'static str],
    why: &'static str,
    way: Way,
) -> Refused {
    Refused { peft_type, name, markers, why, way }
}

const DRAWN: &str = "its file lacks what PEFT draws from torch's generator";
const DECOMPOSED: &str = "it starts from a decomposition of the base's weight, which is not computed here";
const PROMPT: &str = "it works in the prompt";
const FORWARD: &str = "it works in the forward pass";

const TABLE: [Refused; 25] = [
    refused("ADAMSS", "AdaMSS", &["adamss_"], DECOMPOSED, Way::Merge),
    refused("DEFT", "DEFT", &["deft_"], "it projects the outputs of a layer, so each row needs all others", Way::Merge),
    refused("FOURIERFT", "FourierFT", &["fourierft_"], DRAWN, Way::MergeOrLora),
    refused("FROD", "FRoD", &["frod_"], DECOMPOSED, Way::Merge),
    refused(
        "GLORA",
        "GLoRA",
        &["glora_"],
        "its bias takes a product with the weight, which is not merged yet",
        Way::Merge,
    ),
    refused("OSF", "OSF", &["osf_"], DECOMPOSED, Way::Merge),
    refused("PEANUT", "PEANuT", &["peanut_"], "its delta is a network of the base's weight", Way::Merge),
    refused("PSOFT", "PSOFT", &["psoft_"], DECOMPOSED, Way::MergeOrLora),
    refused("ROAD", "RoAd", &["road_"], "it mixes the rows of a weight, which lie in different parts", Way::Merge),
    refused(
        "SUPERTUNING",
        "SuperTuning",
        &["supertuning_"],
        "its places are numbers of elements, of which fp32 does not hold all",
        Way::Merge,
    ),
    refused(
        "TINYLORA",
        "TinyLoRA",
        &["tinylora_"],
        "its file does not say which of its vectors belong to which module",
        Way::MergeOrLora,
    ),
    refused("WAVEFT", "WaveFT", &["waveft_"], DRAWN, Way::MergeOrLora),
    refused("BONE", "Bone", &["bone_"], "PEFT replaced it by MiSS in release 0.18", Way::Older("0.17.1")),
    refused("ADAPTION_PROMPT", "adaption prompt", &["adaption_"], FORWARD, Way::Nothing),
    refused("CARTRIDGE", "cartridge", &[], PROMPT, Way::Nothing),
    refused("CPT", "CPT", &[], PROMPT, Way::Nothing),
    refused("LILY", "Lily", &["lily_"], FORWARD, Way::Nothing),
    refused("MULTITASK_PROMPT_TUNING", "multitask prompt tuning", &[], PROMPT, Way::Nothing),
    refused("P_TUNING", "P-tuning", &[], PROMPT, Way::Nothing),
    refused("POLY", "Poly", &["poly_"], FORWARD, Way::Nothing),
    refused("PREFIX_TUNING", "prefix tuning", &[], PROMPT, Way::Nothing),
    refused("PROMPT_TUNING", "prompt tuning", &["prompt_embeddings"], PROMPT, Way::Nothing),
    refused("SHADOW", "ShadowPEFT", &["shadow_"], FORWARD, Way::Nothing),
    refused("XLORA", "X-LoRA", &["internal_xlora_classifier"], FORWARD, Way::Nothing),
    // No PEFT type of its own, but keys inside a LoRA's file.
    refused("", "KaSA", &["lora_diag"], "it changes the base's weight by its own decomposition", Way::Merge),
];

/// The error for an adapter of a kind that is not merged; `None` if it is not in the table.
pub fn refusal(peft_type: &str) -> Option<Error> {
    let it = TABLE.iter().find(|it| !peft_type.is_empty() && it.peft_type == peft_type)?;
    let Refused { name, why, .. } = it;
    if it.way == Way::Nothing {
        let text = format!("peft_type {peft_type} has no merged weight: {why}, so there is nothing to merge");
        return Some(unsupported(text));
    }
    let error = unsupported(format!("peft_type {peft_type} ({name}) is not merged: {why}"));
    Some(match it.way {
        Way::MergeOrLora => error.hint(
            "merge this adapter with PEFT's merge_and_unload, or convert it to a LoRA that is close to it with PEFT's save_as_lora",
        ),
        Way::Older(version) => error.hint(format!("merge this adapter with the merge_and_unload of PEFT {version}")),
        Way::Merge | Way::Nothing => error.hint("merge this adapter with PEFT's merge_and_unload"),
    })
}

/// The kind that a component of a key belongs to.
pub fn of_key(component: &str) -> Option<&'static str> {
    let is = |marker: &&str| component == *marker || marker.ends_with('_') && component.starts_with(*marker);
    TABLE.iter().find(|it| it.markers.iter().any(is)).map(|it| it.name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::config::AdapterConfig;
    use crate::adapter::kind::KINDS;
    use crate::error::Kind;

    /// Every value of `PeftType` (peft/utils/peft_types.py of PEFT 0.21.2, in its order).
    const PEFT_TYPES: [&str; 45] = [
        "PROMPT_TUNING",
        "MULTITASK_PROMPT_TUNING",
        "P_TUNING",
        "PREFIX_TUNING",
        "LORA",
        "ADALORA",
        "ADAMSS",
        "BOFT",
        "ADAPTION_PROMPT",
        "IA3",
        "BEFT",
        "LILY",
        "LOHA",
        "LOKR",
        "OFT",
        "POLY",
        "LN_TUNING",
        "VERA",
        "FROD",
        "PVERA",
        "FOURIERFT",
        "GLORA",
        "XLORA",
        "HRA",
        "VBLORA",
        "UNILORA",
        "CPT",
        "MISS",
        "RANDLORA",
        "ROAD",
        "TRAINABLE_TOKENS",
        "HIRA",
        "SHIRA",
        "C3A",
        "WAVEFT",
        "OSF",
        "DELORA",
        "GRALORA",
        "CARTRIDGE",
        "TINYLORA",
        "PSOFT",
        "PEANUT",
        "SHADOW",
        "SUPERTUNING",
        "DEFT",
    ];

    #[test]
    fn every_type_of_peft_is_merged_or_refused_with_what_peft_can_do() {
        for peft_type in PEFT_TYPES {
            let merged = KINDS.iter().any(|row| row.peft_type == peft_type);
            let refusal = refusal(peft_type);
            assert_ne!(merged, refusal.is_some(), "{peft_type} is in one of the tables");
            let Some(error) = refusal else { continue };
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(error.message().contains(peft_type), "{error}");
            let nothing = error.message().contains("nothing to merge");
            let way = error.advice().is_some_and(|advice| advice.contains("PEFT"));
            assert!(nothing != way, "{peft_type}: {error}");
        }
        let known = |it: &Refused| ["", "BONE"].contains(&it.peft_type) || PEFT_TYPES.contains(&it.peft_type);
        assert!(TABLE.iter().all(known), "a type that PEFT does not have");
    }

    #[test]
    fn a_configuration_of_such_a_kind_is_refused_as_a_whole() {
        for peft_type in TABLE.iter().map(|it| it.peft_type).filter(|name| !name.is_empty()).chain(["SOMETHING_NEW"]) {
            let json = format!(r#"{{"peft_type": "{peft_type}"}}"#);
            let error = AdapterConfig::parse(json.as_bytes()).unwrap_err();
            assert_eq!(error.kind(), Kind::Unsupported);
            assert!(error.message().contains(peft_type), "{error}");
        }
    }

    #[test]
    fn a_key_names_its_kind() {
        for (component, name) in [
            ("fourierft_spectrum", "FourierFT"),
            ("waveft_spectrum", "WaveFT"),
            ("osf_svd_params", "OSF"),
            ("prompt_embeddings", "prompt tuning"),
            ("lora_diag", "KaSA"),
        ] {
            assert_eq!(of_key(component), Some(name));
        }
        assert_eq!(of_key("q_proj"), None);
    }
}
