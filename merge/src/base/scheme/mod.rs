//! Schemes: how parameters are stored. One file for each, and the table of them.
//!
//! A scheme answers where the rows of a parameter are stored and how those bytes become fp32. Nobody else knows its
//! layout. A recipe starts from a stored parameter ([`stored::Start`]). What no other scheme claims is opaque: its bytes may
//! be copied, and nothing is computed with them.

pub mod claim;
mod opaque;
mod plain;
mod quantised;
pub mod recode;
mod rows;
pub mod seen;
pub mod small;
pub mod stored;
mod table;

use super::parameter::{Parameter, Position};
use super::quantisation::Quantisation;
use crate::inventory::{Shard, SmallTensors, Source};
use crate::tensor::float::Float;
use claim::{Scheme, Tensors};
use opaque::Opaque;
use plain::Plain;
use stored::Stored;
use table::SCHEMES;

/// The parameters of a checkpoint, in the order of their first tensors.
pub fn parameters(shards: &[Shard], quantisation: &Quantisation, small: &SmallTensors) -> Vec<Parameter> {
    let with_shard = || shards.iter().enumerate().flat_map(|(n, shard)| shard.tensors.iter().map(move |t| (n, t)));
    let all: Vec<&Source> = with_shard().map(|(_, t)| t).collect();
    let shard_of: Vec<usize> = with_shard().map(|(n, _)| n).collect();
    let by_name = all.iter().enumerate().map(|(at, t)| (t.name.as_str(), at)).collect();
    let tensors = Tensors { all, by_name, quantisation, small };
    let mut claimed = vec![false; shard_of.len()];
    let mut found: Vec<(usize, Parameter)> = Vec::with_capacity(shard_of.len());
    for scheme in SCHEMES {
        for at in 0..shard_of.len() {
            let Some(claim) = (!claimed[at]).then(|| scheme.claim(at, &tensors)).flatten() else { continue };
            let stands = tensors.find(&claim.name).is_some_and(|at| !claim.tensors.contains(&at));
            if stands || claim.tensors.iter().any(|at| claimed[*at]) {
                continue;
            }
            claim.tensors.iter().for_each(|at| claimed[*at] = true);
            let own = claim.tensors.iter().map(|at| tensors.at(*at).clone()).collect();
            let stored = Stored { scheme, tensors: own, settings: claim.settings };
            let positions = claim.tensors.iter().map(|at| Position { number: *at, shard: shard_of[*at] }).collect();
            found.push((at, Parameter { name: claim.name, dims: claim.dims, stored, positions }));
        }
    }
    found.sort_by_key(|(at, _)| *at);
    found.into_iter().map(|(_, parameter)| parameter).collect()
}

/// How a tensor by itself is stored.
pub fn alone(tensor: &Source) -> Stored {
    // Codes have tensors beside them.
    let scheme: &dyn Scheme = if has_values(tensor) { &Plain } else { &Opaque };
    Stored { scheme, tensors: vec![tensor.clone()], settings: Ok(Vec::new()) }
}

/// Whether a tensor by itself holds values to compute with.
pub fn has_values(tensor: &Source) -> bool {
    Float::of(tensor.dtype).is_some()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::inventory::ObjectId;
    use crate::tensor::Dtype;

    fn tensor(name: &str, dtype: Dtype) -> Source {
        Source { name: name.into(), object: ObjectId(0), offset: 0, dtype, shape: vec![3, 2] }
    }

    #[test]
    fn every_tensor_is_claimed_once_and_keeps_its_place() {
        let shard = |tensors| Shard { name: "f".into(), metadata: BTreeMap::new(), tensors };
        let shards = [
            shard(vec![tensor("codes", Dtype::I8), tensor("a", Dtype::F16)]),
            shard(vec![tensor("mask", Dtype::BOOL), tensor("b", Dtype::BF16), tensor("wide", Dtype::F64)]),
        ];
        let found: Vec<_> = parameters(&shards, &Quantisation::default(), &SmallTensors::new())
            .into_iter()
            .map(|p| (p.name, p.positions[0].shard, p.stored.scheme.name(), p.stored.has_values()))
            .collect();
        let expected = [
            ("codes", 0, "opaque", false),
            ("a", 0, "plain", true),
            ("mask", 1, "opaque", false),
            ("b", 1, "plain", true),
            ("wide", 1, "opaque", false),
        ];
        assert_eq!(found, expected.map(|(name, shard, scheme, values)| (name.to_owned(), shard, scheme, values)));
    }
}
