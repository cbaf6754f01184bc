//! Modules that engines make one module of: all of them are quantised, or none.
//!
//! `tests/conformance/packed_table.py` makes the table from vLLM's `packed_modules_mapping`. Experts are not in it: engines hold all
//! experts of a layer in one module.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use crate::base::by_class::ByClass;

const TABLE: &str = include_str!("packed.json");

/// The modules of an engine by the last parts of their names, each with those of a checkpoint that it is made of.
type Mapping = BTreeMap<String, Vec<String>>;

/// What the engines make of the modules of a model.
#[derive(Debug)]
pub struct Groups(Vec<&'static Mapping>);

/// Modules that are one module of an engine.
#[derive(Debug, PartialEq, Eq)]
pub struct Group {
    /// The name of that module.
    pub fused: String,
    /// The names of those of a checkpoint. A model need not have all of them.
    pub members: Vec<String>,
}

impl Groups {
    /// Those of the class that a configuration names; those of all classes if it names none that is known.
    pub fn of(config: &Value) -> Groups {
        static PARSED: OnceLock<ByClass<Mapping>> = OnceLock::new();
        let table = PARSED.get_or_init(|| serde_json::from_str(TABLE).expect("the table is checked by a test"));
        Groups(table.of_config(config).map_or_else(|| table.lists.iter().collect(), |own| vec![own]))
    }

    /// The groups that a module belongs to.
    pub fn with(&self, module: &str) -> Vec<Group> {
        let mut found = Vec::new();
        for (fused, members) in self.0.iter().flat_map(|mapping| mapping.iter()) {
            let Some(before) = members.iter().find_map(|member| before(module, member)) else { continue };
            let within = |name: &String| format!("{before}{name}");
            let group = Group { fused: within(fused), members: members.iter().map(within).collect() };
            if !found.contains(&group) {
                found.push(group);
            }
        }
        found
    }
}

/// What stands before the last parts of a name: nothing, or something that ends with a dot.
fn before<'a>(module: &'a str, last: &str) -> Option<&'a str> {
    module.strip_suffix(last).filter(|before| before.is_empty() || before.ends_with('.'))
}

/// The path of the experts that a module is one of, or a part of one.
pub fn experts_of(module: &str) -> Option<&str> {
    const EXPERTS: &str = "experts";
    let at = module.split('.').scan(0, |at, part| {
        *at += part.len() + 1;
        Some((*at - 1, part))
    });
    at.filter(|(_, part)| *part == EXPERTS).last().map(|(end, _)| &module[..end])
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn members(class: &str, module: &str) -> Vec<String> {
        let groups = Groups::of(&json!({"architectures": [class]})).with(module);
        groups.into_iter().flat_map(|group| group.members).collect()
    }

    #[test]
    fn query_key_and_value_are_one_and_so_are_gate_and_up() {
        let all = ["m.0.q_proj", "m.0.k_proj", "m.0.v_proj"];
        assert_eq!(members("LlamaForCausalLM", "m.0.k_proj"), all);
        assert_eq!(members("LlamaForCausalLM", "m.0.mlp.up_proj"), ["m.0.mlp.gate_proj", "m.0.mlp.up_proj"]);
        assert!(members("LlamaForCausalLM", "m.0.o_proj").is_empty());
        assert!(members("LlamaForCausalLM", "m.0.xq_proj").is_empty(), "another name");
        let groups = Groups::of(&json!({"architectures": ["LlamaForCausalLM"]}));
        assert_eq!(groups.with("q_proj")[0].fused, "qkv_proj");
    }

    #[test]
    fn the_two_halves_of_latent_attention_are_one() {
        let all = ["m.0.self_attn.q_a_proj", "m.0.self_attn.kv_a_proj_with_mqa"];
        assert_eq!(members("DeepseekV3ForCausalLM", "m.0.self_attn.q_a_proj"), all);
        assert_eq!(members("DeepseekV3ForCausalLM", "m.0.self_attn.kv_a_proj_with_mqa"), all);
        assert!(members("DeepseekV3ForCausalLM", "m.0.self_attn.q_b_proj").is_empty());
    }

    #[test]
    fn a_class_that_is_not_known_may_be_fused_as_any() {
        assert_eq!(members("NewForCausalLM", "q_a_proj"), ["q_a_proj", "kv_a_proj_with_mqa"]);
        assert!(members("NewForCausalLM", "query").contains(&"key".to_owned()));
        assert!(members("LlamaForCausalLM", "query").is_empty());
    }

    #[test]
    fn experts_are_told_by_their_path() {
        assert_eq!(experts_of("m.3.mlp.experts.17.up_proj"), Some("m.3.mlp.experts"));
        assert_eq!(experts_of("m.3.mlp.experts"), Some("m.3.mlp.experts"));
        assert_eq!(experts_of("m.3.mlp.shared_experts.up_proj"), None);
    }
}
