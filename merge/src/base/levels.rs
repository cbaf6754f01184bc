//! Where `config.json` keeps what belongs to the language model: at the top, or in a configuration of its own for models
//! that see or hear as well.

use serde_json::Value;

/// Paths of the language model's own configuration, by the families that have them.
const LEVELS: [&[&str]; 4] = [
    // Most of transformers' models with images.
    &["text_config"],
    // InternVL's own code.
    &["llm_config"],
    // Janus, DeepSeek-VL2.
    &["language_config"],
    // Qwen's omni models.
    &["thinker_config", "text_config"],
];

/// A key of the language model: the top's value, else that of its own configuration.
pub fn get<'a>(config: &'a Value, key: &str) -> Option<&'a Value> {
    let nested = || LEVELS.iter().find_map(|path| path.iter().try_fold(config, |at, name| at.get(name))?.get(key));
    config.get(key).or_else(nested)
}

/// Whether a level of the configuration has this very value under a key.
pub fn holds(config: &Value, key: &str, value: &Value) -> bool {
    config.get(key) == Some(value)
        || LEVELS
            .iter()
            .any(|path| path.iter().try_fold(config, |at, name| at.get(name)).and_then(|at| at.get(key)) == Some(value))
}

/// Sets a key at every level that has it (with `only`: that has this value); false if none has.
pub fn set_held(config: &mut Value, key: &str, value: &Value, only: Option<&Value>) -> bool {
    let fits = |at: &Value| at.get(key).is_some_and(|held| only.is_none_or(|only| held == only));
    let mut found = fits(config);
    if found {
        config[key] = value.clone();
    }
    for path in LEVELS {
        if let Some(at) = path.iter().try_fold(&mut *config, |at, name| at.get_mut(name))
            && fits(at)
        {
            at[key] = value.clone();
            found = true;
        }
    }
    found
}

/// Takes a key out of every level.
pub fn remove(config: &mut Value, key: &str) {
    let take = |at: &mut Value| at.as_object_mut().and_then(|at| at.shift_remove(key));
    take(config);
    for path in LEVELS {
        path.iter().try_fold(&mut *config, |at, name| at.get_mut(name)).and_then(take);
    }
}

/// Changes the object under a key, at every level that has it.
pub fn change(config: &mut Value, key: &str, mut with: impl FnMut(&mut Value)) {
    let mut held = |at: &mut Value| {
        if let Some(held) = at.get_mut(key).filter(|held| held.is_object()) {
            with(held);
        }
    };
    held(config);
    for path in LEVELS {
        if let Some(at) = path.iter().try_fold(&mut *config, |at, name| at.get_mut(name)) {
            held(at);
        }
    }
}

/// Sets a key as [`set_held`] does. Where none has it, it is set in the language model's own configuration, else at the
/// top.
pub fn set(config: &mut Value, key: &str, value: &Value, only: Option<&Value>) {
    if set_held(config, key, value, only) {
        return;
    }
    let is_there =
        |path: &&&[&str]| path.iter().try_fold(&*config, |at, name| at.get(name)).is_some_and(Value::is_object);
    let own = LEVELS.iter().find(is_there).copied().unwrap_or_default();
    if let Some(at) = own.iter().try_fold(config, |at, name| at.get_mut(name)) {
        at[key] = value.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn grown(mut config: Value) -> Value {
        set(&mut config, "vocab_size", &json!(72), None);
        config
    }

    #[test]
    fn a_key_is_set_wherever_the_configuration_has_it() {
        assert_eq!(grown(json!({"vocab_size": 64})), json!({"vocab_size": 72}));
        assert_eq!(
            grown(json!({"vocab_size": 64, "text_config": {"vocab_size": 64}})),
            json!({"vocab_size": 72, "text_config": {"vocab_size": 72}})
        );
        for name in ["text_config", "llm_config", "language_config"] {
            assert_eq!(grown(json!({name: {"vocab_size": 64}})), json!({name: {"vocab_size": 72}}), "{name}");
        }
        let omni = json!({"thinker_config": {"text_config": {"vocab_size": 64}, "audio_config": {}}});
        assert_eq!(grown(omni)["thinker_config"]["text_config"]["vocab_size"], 72);
    }

    #[test]
    fn a_key_that_stands_nowhere_goes_to_the_language_models_own_configuration() {
        assert_eq!(grown(json!({"text_config": {}})), json!({"text_config": {"vocab_size": 72}}));
        assert_eq!(grown(json!({"vision_config": {}})), json!({"vision_config": {}, "vocab_size": 72}));
        assert_eq!(grown(json!({"text_config": 5})), json!({"text_config": 5, "vocab_size": 72}));
    }

    #[test]
    fn only_the_levels_of_one_value_change_where_that_is_asked() {
        let mut config = json!({"vocab_size": 10, "llm_config": {"vocab_size": 64}});
        set(&mut config, "vocab_size", &json!(72), Some(&json!(64)));
        assert_eq!(config, json!({"vocab_size": 10, "llm_config": {"vocab_size": 72}}));
    }

    #[test]
    fn the_top_answers_before_a_level() {
        let config = json!({"a": 1, "language_config": {"a": 2, "b": 3}});
        assert_eq!(get(&config, "a"), Some(&json!(1)));
        assert_eq!(get(&config, "b"), Some(&json!(3)));
        assert!(holds(&config, "b", &json!(3)) && holds(&config, "a", &json!(2)) && !holds(&config, "b", &json!(1)));
    }
}
