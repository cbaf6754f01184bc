//! `config.json` of the output.

use serde_json::{Map, Value};

use super::contents::{Architecture, Contents, SmallFile};
use crate::base::levels;
use crate::base::vocabulary::Vocabulary;
use crate::inventory::BaseInventory;
use crate::json;
use crate::spec::MergeSpec;
use crate::tensor::DtypeExt;

/// The base's config.json, with `vocab_size`, dtype and tying as the tensors have them; untouched if nothing changed.
pub(super) fn config(spec: &MergeSpec, base: &BaseInventory, contents: &Contents) -> SmallFile {
    let mut value = base.config.clone();
    if let Some(Vocabulary { rows, only }) = contents.vocabulary {
        levels::set(&mut value, "vocab_size", &rows.into(), only.map(Value::from).as_ref());
    }
    if contents.untied {
        let key = "tie_word_embeddings";
        if !levels::set_held(&mut value, key, &false.into(), None) {
            value[key] = false.into();
        }
    }
    contents.quantisation.apply(&mut value);
    if let Some(architecture) = &contents.architecture {
        name(&mut value, architecture);
    }
    let main = contents.main_dtype.map(|d| spec.output_dtype(d, contents.main_dtype));
    if let Some(name) = main.and_then(DtypeExt::config_name) {
        let key = ["dtype", "torch_dtype"].into_iter().find(|k| value.get(k).is_some_and(Value::is_string));
        match key {
            Some(key) => value[key] = name.into(),
            None if spec.dtype.dtype().is_some() => value["torch_dtype"] = name.into(),
            None => {}
        }
    }
    if value == base.config {
        return SmallFile::Text(String::from_utf8_lossy(json::without_mark(&base.config_bytes)).into_owned());
    }
    let mut text = json::render(&value);
    text.push('\n');
    SmallFile::Text(text)
}

/// Names the class of a model with a new head, and its labels, which keep their names if there are as many.
fn name(value: &mut Value, Architecture { class, labels }: &Architecture) {
    value["architectures"] = vec![class.as_str()].into();
    let Some(labels) = *labels else { return };
    value["num_labels"] = labels.into();
    let named = value.get("id2label").and_then(Value::as_object).map(Map::len);
    if named == Some(labels as usize) {
        return;
    }
    let label = |id: u64| format!("LABEL_{id}");
    value["id2label"] = (0..labels).map(|id| (id.to_string(), label(id).into())).collect::<Map<String, Value>>().into();
    value["label2id"] = (0..labels).map(|id| (label(id), id.into())).collect::<Map<String, Value>>().into();
}
