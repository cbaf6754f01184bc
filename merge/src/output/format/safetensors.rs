//! safetensors: a header of JSON, then the tensors without gaps.

use std::collections::BTreeMap;

use crate::checkpoint::header;
use crate::error::Result;
use crate::output::encode;
use crate::output::segment::{Places, Span};
use crate::recipe::Placed;

/// The name of the index.
pub(super) const INDEX: &str = "model.safetensors.index.json";

/// The metadata of a header: transformers loads a file only if it says that its tensors are PyTorch's.
pub(super) fn metadata(base: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut metadata = base.clone();
    metadata.insert("format".into(), "pt".into());
    metadata
}

/// A file's name: the base's, if it is one of this format.
pub(super) fn file_name(own: Option<&str>, number: usize, total: usize, single: bool) -> String {
    match own {
        _ if single => "model.safetensors".to_owned(),
        Some(name) if name.ends_with(".safetensors") => name.to_owned(),
        _ => format!("model-{:05}-of-{total:05}.safetensors", number + 1),
    }
}

/// The header.
pub(super) fn header(tensors: &[Placed], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let length = |t: &Placed, shape: &[u64]| encode::bytes(t.dtype, shape).unwrap_or(t.length);
    let whole = tensors.iter().filter_map(|t| Some((t, t.begins()?)));
    let described = whole.map(|(t, shape)| (t.name.as_str(), t.dtype, shape, length(t, shape)));
    header::render(described, metadata)
}

/// Lays the tensors out behind the header.
pub(super) fn place(tensors: &mut [Placed], metadata: &BTreeMap<String, String>) -> Result<Places> {
    for tensor in &mut *tensors {
        tensor.length = encode::length(&tensor.name, tensor.dtype, &tensor.shape)?;
    }
    let length = header(tensors, metadata).len() as u64;
    let mut at = length;
    for tensor in tensors {
        tensor.offset = at;
        at += tensor.length;
    }
    Ok(Places { literals: vec![Span { offset: 0, length }], trailer: 0, size: at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metadata_of_the_base_stays_and_says_pytorch() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(metadata(&of(&[("format", "np"), ("by", "me")])), of(&[("format", "pt"), ("by", "me")]));
        assert_eq!(metadata(&of(&[])), of(&[("format", "pt")]));
    }
}
