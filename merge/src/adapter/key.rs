//! What an adapter's tensor is, by its name.
//!
//! Names follow `X.<role>` where `X` is the module path behind `base_model.model.`; a leftover adapter name
//! (`lora_A.default.weight`) is accepted.

use std::borrow::Cow;

use super::kind::{self, Row};

/// The component of a key that tells token rows.
pub const TOKEN_ROWS: &str = "trainable_tokens_delta";

/// What a tensor is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// A part of a module, by the name that the adapter's kind gives it.
    Part(&'static str),
    /// A tensor that all modules of an adapter share, by the name that the adapter's kind gives it.
    Shared(&'static str),
    /// `base_layer.<param>` or `token_adapter.base_layer.<param>`: replaces the base's parameter.
    BaseLayer(String),
    /// `modules_to_save.<rest>`; `rest` may still start with an adapter's name.
    Saved(String),
    /// `trainable_tokens_delta`: whole rows.
    TokenRows,
    /// A key that is left out on purpose, with the reason.
    Ignored(&'static str),
    /// A key of another adapter kind.
    Foreign(&'static str),
    /// A parameter under its own name.
    Plain(String),
}

/// A classified key: module path (behind `base_model.model.`) and role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key<'a> {
    /// The module path; for `Plain` and `Saved` the path without the parameter.
    pub module: Cow<'a, str>,
    /// How many wrappers the module has around it there: PEFT nests one for each targeted parameter of a module.
    pub depth: usize,
    /// The role.
    pub role: Role,
}

/// Classifies the name of a tensor of an adapter of this kind.
pub fn classify<'a>(name: &'a str, kind: &Row) -> Key<'a> {
    let path = name.strip_prefix("base_model.model.").unwrap_or(name);
    let components: Vec<&str> = path.split('.').collect();
    let key = |at: usize, role: Role| Key {
        module: strip_base_layer(path, &components[..at]),
        depth: components[..at].iter().rev().take_while(|c| **c == "base_layer").count(),
        role,
    };
    let after = |at: usize| components[at + 1..].join(".");
    let first = |is: &dyn Fn(&str) -> Option<&'static str>| {
        components.iter().enumerate().find_map(|(at, component)| Some((at, is(component)?)))
    };
    let find = |marker: &str| components.iter().position(|c| *c == marker);

    if let Some((at, why)) = first(&|c| kind.ignores(c)) {
        return key(at, Role::Ignored(why));
    }
    // A kind may save what all modules share once for each of them too: that is a part of the module.
    let of_module = |at: usize| !matches!(components[..at], [] | ["base_model"]) && kind.has_part(components[at]);
    if let Some((at, name)) = first(&|c| kind.shared(c)).filter(|(at, _)| !of_module(*at)) {
        return key(at, Role::Shared(name));
    }
    let marker = components.iter().position(|c| kind.has_part(c));
    if let Some((at, part)) = marker.and_then(|at| Some((at, kind.part(components[at], &components[at + 1..])?))) {
        return key(at, Role::Part(part));
    }
    if let Some((at, what)) = first(&|c| kind::foreign(c, kind)) {
        return key(at, Role::Foreign(what));
    }
    if let Some(at) = find(TOKEN_ROWS) {
        let at = if at > 0 && components[at - 1] == "token_adapter" { at - 1 } else { at };
        return key(at, Role::TokenRows);
    }
    if let Some(at) = find("token_adapter").filter(|at| components.get(at + 1) == Some(&"base_layer")) {
        return key(at, Role::BaseLayer(after(at + 1)));
    }
    if let Some(at) = find("original_module") {
        return key(at, Role::Ignored("it is the base's own weight"));
    }
    if let Some(at) = find("modules_to_save") {
        return key(at, Role::Saved(after(at)));
    }
    if let Some(at) = find("base_layer") {
        return key(at, Role::BaseLayer(after(at)));
    }
    let last = components.len() - 1;
    let module = Cow::Borrowed(begin(path, &components[..last]));
    Key { module, depth: 0, role: Role::Plain(components[last].to_owned()) }
}

/// nn.MultiheadAttention and nested wrappers leave `base_layer` in the middle of a path.
fn strip_base_layer<'a>(path: &'a str, components: &[&str]) -> Cow<'a, str> {
    match components.contains(&"base_layer") {
        true => components.iter().filter(|c| **c != "base_layer").copied().collect::<Vec<_>>().join(".").into(),
        false => begin(path, components).into(),
    }
}

/// The part of a path that has these components, its first ones.
fn begin<'a>(path: &'a str, components: &[&str]) -> &'a str {
    let length: usize = components.iter().map(|component| component.len() + 1).sum();
    &path[..length.saturating_sub(1)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::kind::KINDS;

    #[test]
    fn every_form_of_a_name_is_classified() {
        let q = "model.layers.0.self_attn.q_proj";
        for (name, module, role) in [
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", q, Role::Part("lora_A")),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", q, Role::Part("lora_A")),
            ("model.layers.0.self_attn.q_proj.lora_B.weight", q, Role::Part("lora_B")),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.bias", q, Role::Part("lora_B.bias")),
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector",
                q,
                Role::Part("lora_magnitude_vector"),
            ),
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight",
                q,
                Role::Part("lora_magnitude_vector"),
            ),
            ("base_model.model.e.lora_embedding_A.default", "e", Role::Part("lora_embedding_A")),
            ("base_model.model.e.lora_embedding_B", "e", Role::Part("lora_embedding_B")),
            ("base_model.model.e.base_layer.weight", "e", Role::BaseLayer("weight".into())),
            ("base_model.model.e.token_adapter.base_layer.weight", "e", Role::BaseLayer("weight".into())),
            ("base_model.model.e.token_adapter.trainable_tokens_delta", "e", Role::TokenRows),
            ("base_model.model.e.trainable_tokens_delta", "e", Role::TokenRows),
            (
                "base_model.model.h.modules_to_save.default.dense.weight",
                "h",
                Role::Saved("default.dense.weight".into()),
            ),
            ("base_model.model.h.original_module.weight", "h", Role::Ignored("it is the base's own weight")),
            ("base_model.model.a.base_layer.out_proj.lora_A.weight", "a.out_proj", Role::Part("lora_A")),
            ("base_model.model.q.lora_monteclora_sampler.x.weight", "q", Role::Ignored("it only acts in training")),
            ("base_model.model.q.hada_w1_a", "q", Role::Foreign("LoHa")),
            ("base_model.model.q.bias", "q", Role::Plain("bias".into())),
        ] {
            assert_eq!(classify(name, KINDS[0]), Key { module: module.into(), depth: 0, role }, "{name}");
        }
        for (name, depth) in [("x.lora_A.weight", 0), ("x.base_layer.base_layer.lora_A.weight", 2)] {
            let role = Role::Part("lora_A");
            assert_eq!(classify(name, KINDS[0]), Key { module: "x".into(), depth, role }, "{name}");
        }
        let lora = classify("base_model.model.q.lora_A.weight", KINDS[2]);
        assert_eq!(lora.role, Role::Foreign("LoRA"), "in an adapter of another kind");
    }
}
