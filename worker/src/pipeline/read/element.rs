//! Elements of stored tensors.

use shardfuse_merge::inventory::Source;
use shardfuse_merge::tensor::number::is_number;
use shardfuse_merge::{DtypeExt, Kind};

use crate::Failure;

/// Bytes of one element of a tensor that is computed with.
pub fn size_of(source: &Source) -> Result<u64, Failure> {
    source.dtype.bytes().filter(|_| is_number(source.dtype)).ok_or_else(|| {
        let what = format!("{} has dtype {}, which nothing is computed with", source.name, source.dtype.name());
        Failure::permanent(Kind::Internal, what)
    })
}
