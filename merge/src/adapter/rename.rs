//! Module paths that were renamed between releases of transformers, in both directions: base and adapter may be of
//! different age, and a checkpoint may lack the prefix of the class that was trained.

/// Old beginning and new beginning.
const RENAMES: [(&str, &str); 6] = [
    // The llava family since transformers 4.52.
    ("language_model.lm_head", "lm_head"),
    ("language_model.model", "model.language_model"),
    ("vision_tower", "model.vision_tower"),
    ("multi_modal_projector", "model.multi_modal_projector"),
    // qwen2_vl and kin.
    ("visual", "model.visual"),
    ("model", "model.language_model"),
];

/// Prefixes of a whole model inside the class with a head (`base_model_prefix` in transformers).
const PREFIXES: [&str; 9] =
    ["model", "transformer", "bert", "roberta", "distilbert", "gpt_neox", "backbone", "vit", "encoder"];

/// The names that a module path may go by in a base, the path itself first.
pub fn candidates(path: &str) -> Vec<String> {
    let mut names = vec![path.to_owned()];
    for (old, new) in RENAMES {
        for (from, to) in [(old, new), (new, old)] {
            if let Some(rest) = strip(path, from) {
                let already = from == "model"
                    && ["language_model", "visual"].iter().any(|p| strip(rest.trim_start_matches('.'), p).is_some());
                if !already {
                    names.push(format!("{to}{rest}"));
                }
            }
        }
    }
    for prefix in PREFIXES {
        if let Some(rest) = strip(path, prefix).and_then(|r| r.strip_prefix('.')) {
            names.push(rest.to_owned());
        }
        names.push(format!("{prefix}.{path}"));
    }
    names
}

/// The rest of `path` behind a whole leading component (or run of components).
fn strip<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    path.strip_prefix(prefix).filter(|rest| rest.is_empty() || rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_directions_and_the_class_prefix_are_tried() {
        let has = |path: &str, name: &str| candidates(path).iter().any(|c| c == name);
        assert!(has("language_model.model.layers.0.q", "model.language_model.layers.0.q"));
        assert!(has("model.language_model.layers.0.q", "language_model.model.layers.0.q"));
        assert!(has("language_model.lm_head", "lm_head"));
        assert!(has("visual.blocks.0", "model.visual.blocks.0"));
        assert!(has("model.layers.0.q", "model.language_model.layers.0.q"));
        assert!(has("transformer.h.0.attn.c_attn", "h.0.attn.c_attn"));
        assert!(has("encoder.layer.0", "bert.encoder.layer.0"));
        assert_eq!(candidates("model.layers.0.q")[0], "model.layers.0.q");
    }

    #[test]
    fn a_component_is_renamed_whole_or_not_at_all() {
        assert!(!candidates("modelling.x").iter().any(|c| c.starts_with("model.language_modelling")));
        assert!(!candidates("model.language_model.x").iter().any(|c| c.contains("language_model.language_model")));
    }
}
