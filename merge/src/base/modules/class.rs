//! What is known of the class of a model.

use serde_json::Value;

use super::holder::Holder;
use super::rule::Rule;
use super::split::Split;
use super::stack::{Member, Stack};
use super::table;

/// What is known of the class of a model.
#[derive(Debug, Default)]
pub struct ModelClass {
    /// How stored names become those of modules, in order.
    pub rules: Vec<Rule>,
    /// What is stored in several tensors: experts, and parts of one weight.
    pub stacks: Vec<Stack>,
    /// What is stored in one tensor with others.
    pub splits: Vec<Split>,
    /// Modules with stacked parameters.
    pub holders: Vec<Holder>,
}

impl ModelClass {
    /// The first class that a configuration names and the table has. For one that is not known, there are only rules for every model.
    pub fn of(config: &Value) -> ModelClass {
        ModelClass {
            rules: table::rules(config),
            stacks: table::stacks(config),
            splits: table::splits(config),
            holders: table::holders(config),
        }
    }

    /// What a stored tensor is in a stacked parameter of a module.
    pub fn member(&self, name: &str) -> Option<Member> {
        self.stacks.iter().find_map(|stack| stack.member(name))
    }

    /// How a stored tensor of this name becomes several parameters, and their names.
    pub fn split(&self, name: &str) -> Option<(&Split, Vec<String>)> {
        self.splits.iter().find_map(|split| Some((split, split.parts(name)?)))
    }

    /// In how many parts a checkpoint stores the rows of one expert of a parameter; 1 if nothing is known.
    pub fn parts_of(&self, parameter: &str) -> u64 {
        self.stacks.iter().find_map(|stack| stack.parts_of(parameter)).unwrap_or(1) as u64
    }

    /// The stacked parameters of a module, in the order in which its class registers them; none if nothing is known.
    pub fn parameters_of(&self, path: &str) -> Vec<&str> {
        match self.holder(path) {
            Some(holder) => holder.parameters.iter().map(String::as_str).collect(),
            // Conversions are written in that order.
            None => self.stacks.iter().filter_map(|stack| stack.parameter_of(path)).collect(),
        }
    }

    /// The module of this path, if it holds stacked parameters.
    pub fn holder(&self, path: &str) -> Option<&Holder> {
        self.holders.iter().find(|holder| holder.is(path))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn class_of(name: &str) -> ModelClass {
        ModelClass::of(&json!({"architectures": [name]}))
    }

    #[test]
    fn the_experts_of_a_class_are_known() {
        for (class, gate, into) in [
            ("Qwen3MoeForCausalLM", "mlp.experts.5.gate_proj.weight", "mlp.experts.gate_up_proj"),
            ("MixtralForCausalLM", "mlp.experts.5.w1.weight", "mlp.experts.gate_up_proj"),
            ("DeepseekV3ForCausalLM", "mlp.experts.5.gate_proj.weight", "mlp.experts.gate_up_proj"),
        ] {
            let member = class_of(class).member(&format!("model.layers.1.{gate}")).unwrap();
            let parameters = vec![format!("model.layers.1.{into}")];
            assert_eq!(member, Member { parameters, part: 0, parts: 2, expert: Some(5), across: false }, "{class}");
        }
        let gpt_oss = class_of("GptOssForCausalLM");
        let experts = gpt_oss.holder("model.layers.0.mlp.experts").unwrap();
        assert!(experts.transposed);
        assert_eq!(experts.parameters, ["gate_up_proj", "gate_up_proj_bias", "down_proj", "down_proj_bias"]);
        assert!(gpt_oss.holder("model.layers.0.mlp").is_none());
        assert!(class_of("LlamaForCausalLM").holders.is_empty());
    }
}
