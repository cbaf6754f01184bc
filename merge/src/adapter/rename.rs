//! Module paths that were renamed between releases of transformers, in both directions: base and adapter may be of
//! different age, and a checkpoint may lack the prefix of the class that was trained.

use std::borrow::Cow;

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
pub fn candidates(path: &str) -> impl Iterator<Item = Cow<'_, str>> {
    // Made one by one: most paths go by their own name.
    let both_ways = RENAMES.into_iter().flat_map(|(old, new)| [(old, new), (new, old)]);
    let renamed = both_ways.filter_map(move |(from, to)| {
        let rest = strip(path, from)?;
        let already = from == "model"
            && ["language_model", "visual"].iter().any(|p| strip(rest.trim_start_matches('.'), p).is_some());
        (!already).then(|| Cow::Owned(format!("{to}{rest}")))
    });
    let prefixed = PREFIXES.into_iter().flat_map(move |prefix| {
        let without = strip(path, prefix).and_then(|rest| rest.strip_prefix('.')).map(Cow::Borrowed);
        without.into_iter().chain([Cow::Owned(format!("{prefix}.{path}"))])
    });
    std::iter::once(Cow::Borrowed(path)).chain(renamed).chain(prefixed)
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
        let has = |path: &str, name: &str| candidates(path).any(|c| c == name);
        assert!(has("language_model.model.layers.0.q", "model.language_model.layers.0.q"));
        assert!(has("model.language_model.layers.0.q", "language_model.model.layers.0.q"));
        assert!(has("language_model.lm_head", "lm_head"));
        assert!(has("visual.blocks.0", "model.visual.blocks.0"));
        assert!(has("model.layers.0.q", "model.language_model.layers.0.q"));
        assert!(has("transformer.h.0.attn.c_attn", "h.0.attn.c_attn"));
        assert!(has("encoder.layer.0", "bert.encoder.layer.0"));
        assert_eq!(candidates("model.layers.0.q").next().unwrap(), "model.layers.0.q");
    }

    #[test]
    fn a_component_is_renamed_whole_or_not_at_all() {
        assert!(!candidates("modelling.x").any(|c| c.starts_with("model.language_modelling")));
        assert!(!candidates("model.language_model.x").any(|c| c.contains("language_model.language_model")));
    }
}
