//! Scales that belong to no weight: those of the KV cache and of activations.
//!
//! Sources: vLLM 0.33 (`maybe_remap_kv_scale_name` in `model_loader/weight_utils.py`), compressed-tensors 0.20 (`output_scale` and
//! its zero points).

/// The last part of their names.
const NAMES: [&str; 16] = [
    "k_scale",
    "v_scale",
    "q_scale",
    "kv_scale",
    "prob_scale",
    "k_zero_point",
    "v_zero_point",
    "kv_cache_scaling_factor",
    "k_cache_scale",
    "v_cache_scale",
    "output_scale",
    "output_zero_point",
    "input_scale",
    "input_zero_point",
    "activation_scale",
    "input_global_scale",
];

/// Whether a tensor that is a parameter by itself is one of them.
pub fn is_stray(name: &str) -> bool {
    NAMES.contains(&name.rsplit('.').next().unwrap_or(name))
}
