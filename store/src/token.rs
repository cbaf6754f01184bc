//! Names that nobody else chooses.

use std::hash::{BuildHasher, RandomState};

/// 64 bits of the system's randomness: the keys of the standard hasher are drawn from it.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(())
}

/// A name of 16 hexadecimal digits.
pub(crate) fn token() -> String {
    format!("{:016x}", random())
}
