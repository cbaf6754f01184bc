//! The checkpoint that a merge starts from.

pub mod tied;
