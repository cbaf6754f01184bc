//! What config.json says of quantised weights.

pub mod exceptions;
pub mod groups;
pub mod strays;

use serde_json::Value;

use super::levels;
use exceptions::{Exceptions, Method};

/// The key, of the model or of its language model.
const KEYS: [&str; 2] = ["quantization_config", "compression_config"];

/// How a checkpoint is quantised, as its configuration has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quantisation {
    /// The method's name, such as `gptq`. None if the checkpoint is not quantised.
    pub method: Option<String>,
    /// Rows and columns of the blocks that have a scale each, as it names them: one size, or one for each group of layers.
    pub blocks: Vec<[u64; 2]>,
    /// The numbers of bits of a weight that it names.
    pub bits: Vec<u64>,
    /// The columns of a group that has a scale. `None` stands for all of a row.
    pub groups: Vec<Option<u64>>,
    /// Whether weights have no zero points.
    pub symmetric: Vec<bool>,
    /// How codes are packed, in small letters: `gptq_v2`, `gemm`, `nf4`, `pack-quantized`.
    pub formats: Vec<String>,
    /// Whether scales are powers of two, whatever their dtype (`scale_fmt` of DeepSeek V3.1).
    pub powers: bool,
    /// Whether weights were rotated before they were quantised (`transform_config` of compressed-tensors).
    pub transformed: bool,
}

impl Quantisation {
    /// Reads it from config.json.
    pub fn of(config: &Value) -> Quantisation {
        let held = KEYS.iter().find_map(|key| levels::get(config, key).filter(|held| held.is_object()));
        let method = held.map(|held| match held.get("quant_method").and_then(Value::as_str) {
            Some(method) => method.to_owned(),
            // Configurations of older compressed-tensors and of bitsandbytes name no method.
            None if held.get("config_groups").is_some() => "compressed-tensors".to_owned(),
            None if ["load_in_4bit", "load_in_8bit"].iter().any(|key| held.get(*key).is_some()) => {
                "bitsandbytes".to_owned()
            }
            None => "an unnamed method".to_owned(),
        });
        let Some(held) = held else { return Quantisation::default() };
        let parts = parts(held);
        let each = |keys: &'static [&str]| parts.iter().flat_map(|p| keys.iter().filter_map(|key| p.get(*key)));
        let marlin = each(&["is_marlin_format"]).any(|is| is == true).then(|| "marlin".to_owned());
        let formats = each(&["checkpoint_format", "format", "version", "bnb_4bit_quant_type"]);
        Quantisation {
            method,
            blocks: blocks(held),
            bits: each(&["bits", "num_bits"]).filter_map(Value::as_u64).collect(),
            // -1 and null are all of a row.
            groups: each(&["group_size"]).map(Value::as_u64).collect(),
            symmetric: each(&["symmetric"])
                .filter_map(Value::as_bool)
                .chain(each(&["zero_point"]).filter_map(Value::as_bool).map(|has| !has))
                .collect(),
            formats: formats.filter_map(Value::as_str).map(str::to_lowercase).chain(marlin).collect(),
            powers: held.get("scale_fmt").is_some_and(|format| format == "ue8m0"),
            transformed: held.get("transform_config").and_then(Value::as_object).is_some_and(|held| !held.is_empty()),
        }
    }
}

/// The places of a configuration that say how weights are stored: itself, the modules that differ from it (`dynamic` of GPTQ),
/// and the groups of compressed-tensors with what they say of weights.
fn parts(held: &Value) -> Vec<&Value> {
    let of = |key| held.get(key).and_then(Value::as_object).into_iter().flat_map(|parts| parts.values());
    let groups = of("config_groups").flat_map(|group| [Some(group), group.get("weights")]).flatten();
    std::iter::once(held).chain(of("dynamic")).chain(groups).collect()
}

/// The sizes of blocks: `weight_block_size` of transformers, `block_structure` and `group_size` of compressed-tensors.
fn blocks(held: &Value) -> Vec<[u64; 2]> {
    let sides = |value: &Value| {
        let sides: Vec<u64> = value.as_array()?.iter().filter_map(Value::as_u64).collect();
        <[u64; 2]>::try_from(sides).ok()
    };
    let of_group = |group: &Value| {
        let weights = group.get("weights")?;
        let columns = || Some([1, weights.get("group_size")?.as_u64()?]);
        weights.get("block_structure").and_then(sides).or_else(columns)
    };
    let groups = held.get("config_groups").and_then(Value::as_object).into_iter().flat_map(|groups| groups.values());
    let named = held.get("weight_block_size").and_then(sides).into_iter().chain(groups.filter_map(of_group));
    named.filter(|sides| sides.iter().all(|side| *side > 0)).collect()
}

/// What becomes of it in the output.
#[derive(Debug, Clone, Default)]
pub enum Fate {
    /// It stays as it is.
    #[default]
    Stays,
    /// Nothing is quantised.
    Gone,
    /// It names modules that are not quantised any more.
    Excepts(&'static Method, Exceptions),
}

impl Fate {
    /// Changes config.json, at every level.
    pub fn apply(&self, config: &mut Value) {
        match self {
            Fate::Stays => {}
            Fate::Gone => KEYS.iter().for_each(|key| levels::remove(config, key)),
            Fate::Excepts(method, exceptions) => KEYS.iter().for_each(|key| {
                levels::change(config, key, |held| method.except(held, exceptions));
            }),
        }
    }

    /// A file that repeats the configuration, as the output has it; `None` if it has none.
    pub fn of_file(&self, name: &str, held: &Value) -> Option<Value> {
        let mut held = held.clone();
        match self {
            Fate::Stays => {}
            Fate::Gone => return None,
            Fate::Excepts(_, exceptions) => {
                method_of_file(name).and_then(exceptions::method)?.except(&mut held, exceptions);
            }
        }
        Some(held)
    }
}

/// Files beside the weights that repeat it, and the methods that write them.
const FILES: [(&str, &str); 3] =
    [("hf_quant_config.json", "modelopt"), ("quantize_config.json", "gptq"), ("quant_config.json", "awq")];

/// The method of a file beside the weights that repeats the configuration.
pub fn method_of_file(name: &str) -> Option<&'static str> {
    FILES.iter().find(|(file, _)| *file == name).map(|(_, method)| *method)
}

/// Whether a file beside the weights repeats the configuration.
pub fn is_repeated_in(name: &str) -> bool {
    method_of_file(name).is_some()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_taken_out_or_changed_at_every_level() {
        let of = json!({"quant_method": "fp8"});
        let mut config = json!({"a": 1, "quantization_config": of, "text_config": {"b": 2, "quantization_config": of}});
        let mut other = config.clone();
        Fate::Gone.apply(&mut config);
        assert_eq!(config, json!({"a": 1, "text_config": {"b": 2}}));
        let exceptions = Exceptions { modules: vec!["m".to_owned()], ..Exceptions::default() };
        Fate::Excepts(exceptions::method("fp8").unwrap(), exceptions).apply(&mut other);
        let of = json!({"quant_method": "fp8", "modules_to_not_convert": ["m"]});
        assert_eq!(
            other,
            json!({"a": 1, "quantization_config": of, "text_config": {"b": 2, "quantization_config": of}})
        );
    }

    #[test]
    fn bits_groups_and_formats_are_named_for_all_or_for_some_modules() {
        let of = |held: Value| Quantisation::of(&json!({"quantization_config": held}));
        let gptq = of(json!({"quant_method": "gptq", "bits": 4, "group_size": -1, "checkpoint_format": "gptq_v2",
            "dynamic": {"+:.*down": {"bits": 8, "group_size": 64}, "-:lm_head": {}}}));
        assert_eq!(
            (gptq.bits, gptq.groups, gptq.formats),
            (vec![4, 8], vec![None, Some(64)], vec!["gptq_v2".to_owned()])
        );
        let awq =
            of(json!({"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": true, "version": "GEMM"}));
        assert_eq!((awq.symmetric, awq.formats), (vec![false], vec!["gemm".to_owned()]));
        let weights = json!({"num_bits": 8, "group_size": null, "symmetric": true});
        let group = json!({"format": "pack-quantized", "weights": weights, "input_activations": {"num_bits": 16}});
        let packed = of(json!({"config_groups": {"a": group}}));
        assert_eq!((packed.bits, packed.groups, packed.symmetric), (vec![8], vec![None], vec![true]));
        assert_eq!(packed.formats, ["pack-quantized"]);
        assert_eq!(of(json!({"is_marlin_format": true})).formats, ["marlin"]);
    }

    #[test]
    fn the_method_is_named_at_any_level_or_told_by_its_keys() {
        let method = |config: Value| Quantisation::of(&config).method;
        assert_eq!(method(json!({"model_type": "llama"})), None);
        assert_eq!(method(json!({"quantization_config": null})), None);
        let named = |method: &str| Some(method.to_owned());
        assert_eq!(method(json!({"quantization_config": {"quant_method": "fp8"}})), named("fp8"));
        assert_eq!(method(json!({"text_config": {"quantization_config": {"quant_method": "awq"}}})), named("awq"));
        assert_eq!(method(json!({"compression_config": {"config_groups": {}}})), named("compressed-tensors"));
        assert_eq!(method(json!({"quantization_config": {"load_in_4bit": true}})), named("bitsandbytes"));
        assert_eq!(method(json!({"quantization_config": {}})), named("an unnamed method"));
        let sized = |held: Value| Quantisation::of(&json!({"quantization_config": held})).blocks;
        assert_eq!(sized(json!({"weight_block_size": [128, 64]})), [[128, 64]]);
        for none in [json!([128]), json!([0, 128]), json!(null)] {
            assert!(sized(json!({"weight_block_size": none})).is_empty());
        }
        let (blocks, columns) = (json!({"block_structure": [96, 64]}), json!({"group_size": 32}));
        let groups = json!({"a": {"weights": blocks}, "b": {"weights": columns}, "c": {"weights": null}});
        assert_eq!(sized(json!({"config_groups": groups})), [[96, 64], [1, 32]]);
    }
}
