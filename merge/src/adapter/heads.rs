//! Heads that an adapter brings and the base lacks: modules that were trained whole and have no place in the base.

use std::collections::HashSet;

use super::edit::{HeadTensor, Resolved};
use super::key::{Key, Role, classify};
use super::wrapper::{self, Unwrap};
use crate::base::names::Names;
use crate::inventory::AdapterInventory;

/// Takes the tensors of new heads out of those that match nothing, if nothing else is among them: an adapter of which more
/// does not fit was trained on another base.
pub(super) fn take(adapter: &AdapterInventory, base: &Names<'_>, unmatched: &mut Vec<String>, out: &mut Resolved) {
    if unmatched.is_empty() {
        return;
    }
    let row = adapter.config.kind.row();
    let keys: Vec<Key> = adapter.tensors.iter().map(|tensor| classify(&tensor.name, row)).collect();
    let mut unwrap = Unwrap::of(keys.iter().map(|key| &*key.module), base);
    let strays: HashSet<&str> = unmatched.iter().map(String::as_str).collect();
    let mut found = Vec::new();
    for (source, key) in adapter.tensors.iter().zip(keys).filter(|(tensor, _)| strays.contains(tensor.name.as_str())) {
        let module = wrapper::bare(&unwrap.path(key.module));
        let forms = match &key.role {
            Role::Plain(parameter) if is_saved(&module, &adapter.config.modules_to_save) => vec![parameter.clone()],
            Role::Saved(rest) => saved_forms(rest),
            _ => return,
        };
        let names = forms.into_iter().map(|parameter| format!("{module}.{parameter}")).collect();
        found.push(HeadTensor { names, source: source.clone() });
    }
    if found.len() == unmatched.len() {
        unmatched.clear();
        out.heads = found;
    }
}

/// What a parameter of `modules_to_save.` may be called: the name of an adapter may stand before it.
fn saved_forms(rest: &str) -> Vec<String> {
    match rest.split_once('.') {
        Some(("default", parameter)) => vec![parameter.to_owned(), rest.to_owned()],
        Some((_, parameter)) => vec![rest.to_owned(), parameter.to_owned()],
        None => vec![rest.to_owned()],
    }
}

/// Whether a module is one of those that were saved whole, or below one.
fn is_saved(module: &str, modules_to_save: &[String]) -> bool {
    let path = format!(".{module}.");
    modules_to_save.iter().any(|name| path.contains(&format!(".{name}.")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::config::AdapterConfig;
    use crate::adapter::resolve::resolve;
    use crate::base::modules::ModelClass;
    use crate::effort::{Cancel, Effort};
    use crate::error::{Kind, Result};
    use crate::inventory::{ObjectId, Source};
    use crate::tensor::Dtype;

    fn resolved(tensors: &[&str]) -> Result<Resolved> {
        let source = |name: &&str| Source {
            name: (*name).into(),
            object: ObjectId(0),
            offset: 0,
            dtype: Dtype::F32,
            shape: vec![4, 4],
        };
        let config = br#"{"peft_type": "LORA", "r": 4, "modules_to_save": ["classifier", "score"]}"#;
        let adapter = AdapterInventory {
            url: "adapter".into(),
            config: AdapterConfig::parse(config).unwrap(),
            tensors: tensors.iter().map(source).collect(),
            extra: Vec::new(),
            sidecars: Vec::new(),
            skipped: Vec::new(),
            files: Vec::new(),
        };
        let class = ModelClass::default();
        let base = Names::new([("m.q.weight", &[][..])].into_iter(), std::iter::empty(), &class);
        resolve(&adapter, Default::default(), &base, &mut Effort::new(Cancel::default()))
    }

    const PAIR: [&str; 2] = ["base_model.model.m.q.lora_A.weight", "base_model.model.m.q.lora_B.weight"];

    #[test]
    fn a_module_to_save_that_the_base_lacks_is_a_head_whatever_its_key_looks_like() {
        for (key, names) in [
            ("base_model.model.score.weight", &["score.weight"][..]),
            ("base_model.model.classifier.dense.weight", &["classifier.dense.weight"]),
            ("base_model.model.score.modules_to_save.weight", &["score.weight"]),
            ("base_model.model.score.modules_to_save.default.weight", &["score.weight", "score.default.weight"]),
            ("_orig_mod.base_model.model.score.weight", &["score.weight"]),
        ] {
            let resolved = resolved(&[PAIR[0], PAIR[1], key]).unwrap();
            assert_eq!(resolved.heads.iter().map(|head| head.names.as_slice()).collect::<Vec<_>>(), [names], "{key}");
        }
    }

    #[test]
    fn an_adapter_of_which_more_does_not_fit_brings_no_head() {
        let score = "base_model.model.score.weight";
        for other in ["base_model.model.m.x.lora_A.weight", "base_model.model.m.norm.weight"] {
            let error = resolved(&[PAIR[0], PAIR[1], score, other]).unwrap_err();
            assert_eq!(error.kind(), Kind::UnmatchedKeys);
            assert!(error.message().contains(score) && error.message().contains(other), "{error}");
        }
    }
}
