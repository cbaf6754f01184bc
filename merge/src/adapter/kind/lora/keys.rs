//! The keys of the configuration and of the tensors.

use crate::adapter::kind::adapter_kind::{End, Part};

pub(super) const A: &str = "lora_A";
pub(super) const B: &str = "lora_B";
pub(super) const BIAS: &str = "lora_B.bias";
pub(super) const EMBEDDING_A: &str = "lora_embedding_A";
pub(super) const EMBEDDING_B: &str = "lora_embedding_B";
pub(super) const MAGNITUDE: &str = "lora_magnitude_vector";

/// The tensors that a module may have.
pub(super) static PARTS: [Part; 6] = [
    Part { name: A, marker: A, end: End::Weight },
    Part { name: BIAS, marker: B, end: End::Bias },
    Part { name: B, marker: B, end: End::Weight },
    Part { name: EMBEDDING_A, marker: EMBEDDING_A, end: End::Any },
    Part { name: EMBEDDING_B, marker: EMBEDDING_B, end: End::Any },
    Part { name: MAGNITUDE, marker: MAGNITUDE, end: End::Any },
];

/// The keys that PEFT 0.3 to 0.21 write for this kind.
pub(super) const KEYS: [&str; 33] = [
    "alora_invocation_tokens",
    "alpha_pattern",
    "arrow_config",
    "corda_config",
    "enable_lora",
    "eva_config",
    "init_lora_weights",
    "kasa_config",
    "layer_replication",
    "loftq_config",
    "lora_alpha",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "merge_weights",
    "monteclora_config",
    "num_layers",
    "num_virtual_tokens",
    "qalora_group_size",
    "r",
    "rank_pattern",
    "runtime_config",
    "target_parameters",
    "tinylora_config",
    "token_dim",
    "trainable_token_indices",
    "use_bdlora",
    "use_dora",
    "use_qalora",
    "use_rslora",
    "velora_config",
];
