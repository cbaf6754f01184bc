//! What an adapter's tensor is, by its name.
//!
//! Names follow `X.<role>` where `X` is the module path behind `base_model.model.`; a leftover adapter name
//! (`lora_A.default.weight`) is accepted.

/// The part that a tensor plays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// `lora_A.weight`: [r, in] (convolution: [r, in, *k]).
    LoraA,
    /// `lora_B.weight`: [out, r] (convolution: [out, r, 1...]).
    LoraB,
    /// `lora_B.bias`: `[out]`, added with the scale.
    LoraBBias,
    /// `lora_embedding_A`: [r, vocab].
    EmbeddingA,
    /// `lora_embedding_B`: [dim, r].
    EmbeddingB,
    /// `lora_magnitude_vector`: DoRA's magnitude.
    Magnitude,
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
pub struct Key {
    /// The module path; for `Plain` and `Saved` the path without the parameter.
    pub module: String,
    /// The role.
    pub role: Role,
}

/// Classifies an adapter tensor's name.
pub fn classify(name: &str) -> Key {
    let path = name.strip_prefix("base_model.model.").unwrap_or(name);
    let parts: Vec<&str> = path.split('.').collect();
    let key = |at: usize, role: Role| Key { module: strip_base_layer(&parts[..at]), role };
    let after = |at: usize| parts[at + 1..].to_vec();

    if let Some(at) = find(&parts, &["lora_monteclora_sampler", "lora_velora_embed"]) {
        return key(at, Role::Ignored("it only acts in training"));
    }
    if let Some(at) =
        find(&parts, &["lora_A", "lora_B", "lora_embedding_A", "lora_embedding_B", "lora_magnitude_vector"])
    {
        let bias = after(at).last() == Some(&"bias");
        let role = match parts[at] {
            "lora_A" if !bias => Some(Role::LoraA),
            "lora_B" if bias => Some(Role::LoraBBias),
            "lora_B" => Some(Role::LoraB),
            "lora_embedding_A" => Some(Role::EmbeddingA),
            "lora_embedding_B" => Some(Role::EmbeddingB),
            "lora_magnitude_vector" => Some(Role::Magnitude),
            _ => None,
        };
        if let Some(role) = role {
            return key(at, role);
        }
    }
    if let Some((at, what)) = parts.iter().enumerate().find_map(|(i, p)| foreign(p).map(|w| (i, w))) {
        return key(at, Role::Foreign(what));
    }
    if let Some(at) = find(&parts, &["trainable_tokens_delta"]) {
        let at = if at > 0 && parts[at - 1] == "token_adapter" { at - 1 } else { at };
        return key(at, Role::TokenRows);
    }
    if let Some(at) = find(&parts, &["token_adapter"]).filter(|at| parts.get(at + 1) == Some(&"base_layer")) {
        return key(at, Role::BaseLayer(after(at + 1).join(".")));
    }
    if let Some(at) = find(&parts, &["original_module"]) {
        return key(at, Role::Ignored("it is the base's own weight"));
    }
    if let Some(at) = find(&parts, &["modules_to_save"]) {
        return key(at, Role::Saved(after(at).join(".")));
    }
    if let Some(at) = find(&parts, &["base_layer"]) {
        return key(at, Role::BaseLayer(after(at).join(".")));
    }
    let last = parts.len() - 1;
    Key { module: parts[..last].join("."), role: Role::Plain(parts[last].to_owned()) }
}

fn find(parts: &[&str], markers: &[&str]) -> Option<usize> {
    parts.iter().position(|p| markers.contains(p))
}

/// nn.MultiheadAttention and nested wrappers leave `base_layer` in the middle of a path.
fn strip_base_layer(parts: &[&str]) -> String {
    parts.iter().filter(|p| **p != "base_layer").copied().collect::<Vec<_>>().join(".")
}

fn foreign(part: &str) -> Option<&'static str> {
    Some(match part {
        _ if part.starts_with("hada_") => "LoHa",
        _ if part.starts_with("lokr_") => "LoKr",
        "ia3_l" => "IA3",
        "vera_A" | "vera_B" | "vera_lambda_b" | "vera_lambda_d" => "VeRA",
        "lora_E" | "ranknum" => "AdaLoRA",
        "oft_R" | "oft_r" | "oft_embedding_R" | "oft_s" => "OFT",
        "boft_R" | "boft_s" => "BOFT",
        "lora_diag" => "KaSA",
        "prompt_embeddings" => "a prompt",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_a_name_is_classified() {
        let q = "model.layers.0.self_attn.q_proj";
        for (name, module, role) in [
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight", q, Role::LoraA),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight", q, Role::LoraA),
            ("model.layers.0.self_attn.q_proj.lora_B.weight", q, Role::LoraB),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_B.default.bias", q, Role::LoraBBias),
            ("base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", q, Role::Magnitude),
            (
                "base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector.default.weight",
                q,
                Role::Magnitude,
            ),
            ("base_model.model.e.lora_embedding_A.default", "e", Role::EmbeddingA),
            ("base_model.model.e.lora_embedding_B", "e", Role::EmbeddingB),
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
            ("base_model.model.a.base_layer.out_proj.lora_A.weight", "a.out_proj", Role::LoraA),
            ("base_model.model.q.lora_monteclora_sampler.x.weight", "q", Role::Ignored("it only acts in training")),
            ("base_model.model.q.hada_w1_a", "q", Role::Foreign("LoHa")),
            ("base_model.model.q.bias", "q", Role::Plain("bias".into())),
        ] {
            assert_eq!(classify(name), Key { module: module.into(), role }, "{name}");
        }
    }
}
