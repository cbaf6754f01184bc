//! Names that a PyTorch file gives one range of one storage.

use crate::inventory::{Shard, Source};

/// Whether two tensors are the same bytes: one place, type and shape. Tensors without bytes lie nowhere.
pub(super) fn is_one(left: &Source, right: &Source) -> bool {
    let place = |t: &Source| (t.object, t.offset, t.dtype);
    left.bytes() > 0 && place(left) == place(right) && left.shape == right.shape
}

/// The groups of names that are the same bytes, each in the order of the files.
pub(super) fn groups(shards: &[Shard]) -> Vec<Vec<&str>> {
    let mut tensors: Vec<&Source> = shards.iter().flat_map(|shard| &shard.tensors).collect();
    tensors.sort_by(|a, b| (a.object, a.offset, &a.shape).cmp(&(b.object, b.offset, &b.shape)));
    let runs = tensors.chunk_by(|a, b| is_one(a, b)).filter(|run| run.len() > 1);
    runs.map(|run| run.iter().map(|tensor| tensor.name.as_str()).collect()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inventory::ObjectId;
    use crate::tensor::Dtype;

    #[test]
    fn one_place_and_one_shape_are_one_tensor_and_an_empty_one_is_none() {
        let tensor = |name: &str, object: u32, offset: u64, shape: &[u64]| {
            let (object, dtype) = (ObjectId(object), Dtype::F32);
            Source { name: name.into(), object, offset, dtype, shape: shape.into() }
        };
        let shards = [
            Shard {
                name: "a.bin".into(),
                metadata: BTreeMap::new(),
                tensors: vec![
                    tensor("embedding", 0, 64, &[4, 2]),
                    tensor("flat", 0, 64, &[8]),
                    tensor("other", 0, 96, &[4, 2]),
                    tensor("head", 0, 64, &[4, 2]),
                    tensor("nothing", 0, 8, &[0]),
                    tensor("void", 0, 8, &[0]),
                ],
            },
            Shard {
                name: "b.bin".into(),
                metadata: BTreeMap::new(),
                tensors: vec![tensor("same offset", 1, 64, &[4, 2])],
            },
        ];
        assert_eq!(groups(&shards), [["embedding", "head"]]);
    }
}
