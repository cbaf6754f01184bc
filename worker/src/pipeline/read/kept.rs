//! What a worker keeps for neighbouring parts: packed right factors, matrices that were made, tensors of scattered views, and what
//! statistics made of an operand.

use shardfuse_merge::recipe::Form;
use shardfuse_merge::tensor::View;

use super::cache::Cache;
use super::version::Version;
use crate::device::cpu::Packed;

/// A right factor as the kernels take it.
#[derive(Debug)]
pub struct RightFactor {
    /// The values.
    pub packed: Packed,
    /// Whether all of them are zero.
    pub zero: bool,
}

/// A right factor in its object: where the tensor begins, the view of it, and what its rows are multiplied with.
pub type FactorKey = (Version, u64, View, Option<(Version, u64)>);
/// Packed right factors.
pub type Factors = Cache<FactorKey, RightFactor>;

/// Matrices that were made of stored tensors, in the form in which they are needed.
#[derive(Debug)]
pub enum MadeValues {
    /// Row-major.
    Plain(Vec<f32>),
    /// Each as a right factor.
    Rights(Vec<Packed>),
}

/// How matrices are made, as bytes of a recipe, the form, and the versions of what they are made of.
pub type MadeKey = (Vec<u8>, Form, Vec<Version>);
/// Matrices that were made.
pub type MadeMatrices = Cache<MadeKey, MadeValues>;

/// A tensor in its object: where it begins.
pub type TensorKey = (Version, u64);
/// Tensors as they are stored, of which every view takes a little of every row.
pub type StoredTensors = Cache<TensorKey, Vec<u8>>;

/// The digest of a statistic's value, and the operand that it is applied to: its object and where it begins.
pub type DerivedKey = (String, Version, u64);
/// Derived values for each column.
pub type Derived = Cache<DerivedKey, Vec<f32>>;
