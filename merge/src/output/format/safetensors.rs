//! safetensors: a header of JSON, then the tensors without gaps.

use std::collections::BTreeMap;

use crate::checkpoint::header;
use crate::error::Result;
use crate::inventory::Shard;
use crate::output::encode;
use crate::output::segment::{Places, Span};
use crate::recipe::Placed;

/// What the names of files of this format end in.
const EXTENSION: &str = ".safetensors";
/// Bytes of a block of a file system; smaller blocks divide it.
const BLOCK: u64 = 4096;

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
        Some(name) if name.ends_with(EXTENSION) => name.to_owned(),
        _ => format!("model-{:05}-of-{total:05}.safetensors", number + 1),
    }
}

/// Where the data of a file of the base begin.
pub(super) fn begins(shard: &Shard) -> Option<u64> {
    let first = shard.tensors.iter().map(|tensor| tensor.offset).min();
    first.filter(|_| shard.name.ends_with(EXTENSION))
}

/// The header.
pub(super) fn header(tensors: &[Placed], metadata: &BTreeMap<String, String>) -> Vec<u8> {
    let length = |t: &Placed, shape: &[u64]| encode::bytes(t.dtype, shape).unwrap_or(t.length);
    let whole = tensors.iter().filter_map(|t| Some((t, t.begins()?)));
    let described = whole.map(|(t, shape)| (t.name.as_str(), t.dtype, shape, length(t, shape)));
    header::render(described, metadata)
}

/// The header, padded to this many bytes.
pub(super) fn padded(tensors: &[Placed], metadata: &BTreeMap<String, String>, length: u64) -> Vec<u8> {
    let mut header = header(tensors, metadata);
    header::lengthen(&mut header, length);
    header
}

/// Lays the tensors out behind the header. `after` is where the data of the base's file begins, if it is of this format: the
/// data of the output begins there too, or a whole number of [`BLOCK`]s later. Then a file system can share the blocks of both.
pub(super) fn place(tensors: &mut [Placed], metadata: &BTreeMap<String, String>, after: Option<u64>) -> Result<Places> {
    for tensor in &mut *tensors {
        tensor.length = encode::length(&tensor.name, tensor.dtype, &tensor.shape)?;
    }
    let needed = header(tensors, metadata).len() as u64;
    let length = after.map_or(needed, |after| after + needed.saturating_sub(after).next_multiple_of(BLOCK));
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
    use crate::inventory::{ObjectId, Source};
    use crate::recipe::Recipe;
    use crate::tensor::Dtype;

    #[test]
    fn the_data_begin_where_those_of_the_base_do_or_whole_blocks_later() {
        let (object, dtype, shape) = (ObjectId(0), Dtype::U8, vec![3]);
        let recipe = Recipe::Copy(Source { name: "a".into(), object, offset: 0, dtype, shape: shape.clone() });
        let tensor = Placed { name: "a".into(), dtype, shape, offset: 0, length: 0, recipe, portion: None };
        let none = BTreeMap::new();
        let needed = header(std::slice::from_ref(&tensor), &none).len() as u64;
        for (after, begins) in [
            (None, needed),
            (Some(needed), needed),
            (Some(needed + 8), needed + 8),
            (Some(needed + 100_003), needed + 100_003),
            (Some(needed - 8), needed - 8 + BLOCK),
        ] {
            let mut tensors = [tensor.clone()];
            let places = place(&mut tensors, &none, after).unwrap();
            assert_eq!((tensors[0].offset, places.size), (begins, begins + 3), "after {after:?}");
            let header = padded(&tensors, &none, begins);
            assert_eq!(header.len() as u64, begins);
            assert_eq!(header::header_length(header[..8].try_into().unwrap(), begins + 3).unwrap(), begins - 8);
            let read = header::parse(&header[8..], begins + 3).unwrap();
            assert_eq!((read.tensors[0].offset, read.tensors[0].length), (begins, 3));
        }
    }

    #[test]
    fn the_metadata_of_the_base_stays_and_says_pytorch() {
        let of = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
        };
        assert_eq!(metadata(&of(&[("format", "np"), ("by", "me")])), of(&[("format", "pt"), ("by", "me")]));
        assert_eq!(metadata(&of(&[])), of(&[("format", "pt")]));
    }
}
