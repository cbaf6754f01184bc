//! What config.json says of quantised weights.

use serde_json::Value;

use super::levels;

/// The key, of the model or of its language model.
const KEYS: [&str; 2] = ["quantization_config", "compression_config"];

/// How a checkpoint is quantised, as its configuration has it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Quantisation {
    /// The method's name, such as `gptq`. None if the checkpoint is not quantised.
    pub method: Option<String>,
    /// Rows and columns of the blocks that have a scale each, as it names them: one size, or one for each group of layers.
    pub blocks: Vec<[u64; 2]>,
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
        Quantisation { method, blocks: held.map(blocks).unwrap_or_default() }
    }
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

/// Takes it out of config.json, at every level.
pub fn remove(config: &mut Value) {
    KEYS.iter().for_each(|key| levels::remove(config, key));
}

/// Whether a file beside the weights repeats it: ModelOpt's, GPTQ's and AWQ's.
pub fn is_repeated_in(name: &str) -> bool {
    ["hf_quant_config.json", "quantize_config.json", "quant_config.json"].contains(&name)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn it_is_taken_out_at_every_level() {
        let of = json!({"quant_method": "fp8"});
        let mut config = json!({"a": 1, "quantization_config": of, "text_config": {"b": 2, "quantization_config": of}});
        remove(&mut config);
        assert_eq!(config, json!({"a": 1, "text_config": {"b": 2}}));
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
