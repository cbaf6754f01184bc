//! Modules that a quantised checkpoint says are not quantised: where each method lists them, and how loaders read the list.
//!
//! Sources: transformers 5.23 (`utils/quantization_config.py`, `quantizers/`), vLLM 0.33 (`model_executor/layers/quantization/`),
//! compressed-tensors 0.20 (`utils/match.py`), GPTQModel (`quantization/config.py`, `dynamic_get`).

use serde_json::{Map, Value};

/// What a name in the list takes with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// The module of that name.
    One,
    /// The modules below it, and those whose names end with it.
    Modules,
    /// All modules whose names begin or end with it.
    Texts,
}

/// How exceptions are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// A list of names.
    Names,
    /// An object of expressions: what matches one that begins with `-:` is not quantised. The first that matches decides.
    Patterns,
}

/// A method and its list.
#[derive(Debug)]
pub struct Method {
    /// What `quant_method` says.
    names: &'static [&'static str],
    /// The keys under which the list may stand, the usual one first.
    keys: &'static [&'static str],
    form: Form,
    /// How far a name reaches.
    pub reach: Reach,
    /// Whether loaders leave the output embedding and tied weights out where there is no list.
    defaults: bool,
    /// Whether loaders take all parameters of this method, or none.
    pub whole: bool,
    /// What a person has to know of loaders that do not read the list.
    pub remark: Option<&'static str>,
}

const LIST: Method = Method {
    names: &[],
    keys: &[],
    form: Form::Names,
    reach: Reach::Modules,
    defaults: true,
    whole: false,
    remark: None,
};

/// One row for each method.
static METHODS: [Method; 8] = [
    // transformers: FineGrainedFP8Config takes `ignored_layers` where the other is missing, and `should_convert_module` matches a name
    // at the start up to a dot, or at the end. vLLM: fp8.py reads `ignored_layers` first.
    Method { names: &["fp8"], keys: &["modules_to_not_convert", "ignored_layers"], ..LIST },
    // transformers: FbgemmFp8Config. vLLM: fbgemm_fp8.py has the same key.
    Method { names: &["fbgemm_fp8"], keys: &["modules_to_not_convert"], ..LIST },
    // transformers: Mxfp4Config; `replace_with_mxfp4_linear` replaces every module of experts. vLLM: mxfp4.py does too.
    Method { names: &["mxfp4"], keys: &["modules_to_not_convert"], whole: true, ..LIST },
    // transformers: AwqConfig. vLLM: auto_awq.py matches any part of a name.
    Method { names: &["awq"], keys: &["modules_to_not_convert"], reach: Reach::Texts, ..LIST },
    // transformers: BitsAndBytesConfig.
    Method { names: &["bitsandbytes"], keys: &["llm_int8_skip_modules"], ..LIST },
    // compressed-tensors: `is_match`, a name or, after `re:`, an expression. vLLM: `should_ignore_layer` likewise.
    Method { names: &["compressed-tensors"], keys: &["ignore"], reach: Reach::One, defaults: false, ..LIST },
    // vLLM: modelopt.py reads `ignore`, else `exclude_modules`, and matches any part of a name; MiniMax's `mxfp8` has
    // `ignored_layers`.
    Method {
        names: &["modelopt", "modelopt_fp4", "mxfp8"],
        keys: &["ignore", "exclude_modules", "ignored_layers"],
        reach: Reach::Texts,
        defaults: false,
        ..LIST
    },
    // GPTQModel: `dynamic_get` matches expressions from the start of a name. vLLM: `get_dynamic_override` too, with the name of
    // the fused module.
    // transformers: GPTQConfig does not know `dynamic`.
    Method {
        names: &["gptq"],
        keys: &["dynamic"],
        form: Form::Patterns,
        reach: Reach::One,
        defaults: false,
        remark: Some(
            "quantization_config names what is not quantised any more in dynamic, which GPTQModel and vLLM read, and transformers' own loader does not",
        ),
        ..LIST
    },
];

/// What GPTQ quantises in each block, where that is said.
const INCLUDED: &str = "modules_in_block_to_quantize";

/// ModelOpt's own file, and an older form of its configuration, have everything below this key.
const NESTED: &str = "quantization";

/// The method of a name.
pub fn method(name: &str) -> Option<&'static Method> {
    METHODS.iter().find(|method| method.names.contains(&name))
}

/// The modules that leave the quantised set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Exceptions {
    /// Their names.
    pub modules: Vec<String>,
    /// The names of the modules that engines make of several of them. Only expressions take them.
    pub fused: Vec<String>,
    /// What loaders leave out by themselves while there is no list.
    pub defaults: Vec<String>,
    /// The modules that stay.
    pub staying: Vec<String>,
}

impl Method {
    /// Adds the exceptions to a configuration.
    pub fn except(&self, held: &mut Value, exceptions: &Exceptions) {
        let is_nested = held.get(NESTED).is_some_and(Value::is_object);
        let held = if is_nested { &mut held[NESTED] } else { held };
        let stands = |key: &&&str| held.get(**key).is_some_and(|list| list.is_array() || list.is_object());
        let keys: Vec<&str> = self.keys.iter().filter(stands).copied().collect();
        let usual = if is_nested && self.keys.contains(&"exclude_modules") { "exclude_modules" } else { self.keys[0] };
        let (keys, defaults) = match keys.is_empty() {
            true => (vec![usual], self.defaults),
            false => (keys, false),
        };
        for key in keys {
            match self.form {
                Form::Names => add_names(&mut held[key], exceptions, defaults),
                Form::Patterns => add_patterns(&mut held[key], exceptions),
            }
        }
        if self.form == Form::Patterns
            && let Some(included) = held.get_mut(INCLUDED)
        {
            exclude(included, &exceptions.staying);
        }
    }
}

fn add_names(list: &mut Value, exceptions: &Exceptions, defaults: bool) {
    let mut names = list.as_array().cloned().unwrap_or_default();
    let more = exceptions.defaults.iter().filter(|_| defaults).chain(&exceptions.modules);
    names.extend(more.map(|name| Value::from(name.as_str())));
    let mut seen = std::collections::HashSet::new();
    names.retain(|name| seen.insert(name.clone()));
    *list = names.into();
}

/// The new expressions come first, since the first that matches decides.
fn add_patterns(object: &mut Value, exceptions: &Exceptions) {
    let names = exceptions.modules.iter().chain(&exceptions.fused);
    let mut all: Map<String, Value> =
        names.map(|name| (format!("-:^{}$", escaped(name)), Value::Object(Map::new()))).collect();
    for (pattern, settings) in object.as_object().into_iter().flatten() {
        all.entry(pattern.clone()).or_insert_with(|| settings.clone());
    }
    *object = all.into();
}

/// A name as an expression that matches it and nothing else.
fn escaped(name: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || c == '_';
    name.chars().flat_map(|c| (!plain(c)).then_some('\\').into_iter().chain([c])).collect()
}

/// Takes out of a list what no module that stays has in its name. Lists may hold lists.
fn exclude(list: &mut Value, staying: &[String]) {
    let Some(entries) = list.as_array_mut() else { return };
    entries.iter_mut().for_each(|entry| exclude(entry, staying));
    entries.retain(|entry| match entry {
        Value::String(entry) => staying.iter().any(|module| module.contains(entry.as_str())),
        Value::Array(entries) => !entries.is_empty(),
        _ => true,
    });
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn excepted(name: &str, mut held: Value) -> Value {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let exceptions = Exceptions {
            modules: of(&["m.0.q_proj"]),
            fused: of(&["m.0.qkv_proj"]),
            defaults: of(&["lm_head"]),
            staying: of(&["m.1.q_proj", "m.0.up_proj"]),
        };
        method(name).unwrap().except(&mut held, &exceptions);
        held
    }

    #[test]
    fn a_list_that_stands_grows_and_one_that_is_missing_begins_with_the_loaders_defaults() {
        let (held, grown) =
            (json!({"modules_to_not_convert": ["x"]}), json!({"modules_to_not_convert": ["x", "m.0.q_proj"]}));
        let new = json!({"modules_to_not_convert": ["lm_head", "m.0.q_proj"]});
        for name in ["fp8", "fbgemm_fp8", "awq"] {
            assert_eq!(excepted(name, held.clone()), grown, "{name}");
            assert_eq!(excepted(name, json!({})), new, "{name}");
            assert_eq!(excepted(name, json!({"modules_to_not_convert": null})), new, "{name}");
        }
        assert_eq!(
            excepted("fp8", json!({"ignored_layers": ["m.0.q_proj"]})),
            json!({"ignored_layers": ["m.0.q_proj"]})
        );
        let both = json!({"modules_to_not_convert": ["m.0.q_proj"], "ignored_layers": ["m.0.q_proj"]});
        assert_eq!(excepted("fp8", json!({"modules_to_not_convert": [], "ignored_layers": []})), both);
        assert_eq!(excepted("compressed-tensors", json!({})), json!({"ignore": ["m.0.q_proj"]}));
        assert_eq!(excepted("bitsandbytes", json!({})), json!({"llm_int8_skip_modules": ["lm_head", "m.0.q_proj"]}));
        assert_eq!(excepted("modelopt", json!({})), json!({"ignore": ["m.0.q_proj"]}));
        let file = json!({"quantization": {"quant_algo": "FP8"}});
        assert_eq!(
            excepted("modelopt", file),
            json!({"quantization": {"quant_algo": "FP8", "exclude_modules": ["m.0.q_proj"]}})
        );
    }

    #[test]
    fn expressions_are_anchored_and_come_before_those_that_could_match_too() {
        let got = excepted("gptq", json!({"dynamic": {"+:.*": {"bits": 8}}, "bits": 4}));
        let keys: Vec<_> = got["dynamic"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, [r"-:^m\.0\.q_proj$", r"-:^m\.0\.qkv_proj$", "+:.*"]);
        assert_eq!((&got["dynamic"]["+:.*"]["bits"], &got["bits"]), (&json!(8), &json!(4)));
    }

    #[test]
    fn an_inclusion_stands_as_long_as_it_has_a_module() {
        let of = |list: Value| excepted("gptq", json!({INCLUDED: list}))[INCLUDED].take();
        assert_eq!(of(json!([["q_proj", "k_proj"], ["v_proj"], ["mlp", "up_proj"]])), json!([["q_proj"], ["up_proj"]]));
    }
}
