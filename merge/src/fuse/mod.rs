//! The arithmetic of a merge, defined once.
//!
//! What a merge's bytes are must not depend on who computed them: not on the instruction set, the number of threads or
//! the worker. So the arithmetic is written down here in plain Rust, operation by operation, and every faster kernel
//! is held against it bit by bit. The rules:
//!
//! - Values are upcast to fp32 ([`convert`]), which is exact, and all adapters are applied in fp32.
//! - A low-rank delta is, for each element, one chain of fused multiply-adds over the rank in increasing order, then one
//!   fused multiply-add with the scale ([`mod@reference`]). The chain is never split: fp32 addition is not associative.
//! - Reductions are in f64 with a fixed shape ([`norm`]), so that cutting a tensor among workers changes nothing.
//! - The result is rounded once, to nearest even, and a value that the output dtype cannot hold is reported, not stored
//!   in silence.
//!
//! [`exact`] computes the same merge in f64, for checking that an output is as near to the true result as this
//! arithmetic promises.
//!
//! Every matrix is a row-major slice: element (i, j) of a rows x cols matrix is at `i * cols + j`. Slices whose lengths
//! do not fit each other are a defect of the caller, and panic.
//!
//! Several functions are `#[inline(always)]` for one reason: a caller that is compiled for a wider instruction set gets
//! them compiled for it too. The operations are those of IEEE 754 either way, so the bits do not change.

pub mod convert;
pub mod exact;
pub mod norm;
pub mod reference;

pub use convert::{decode, decode_f64, encode, first_non_finite};

#[cfg(test)]
mod tests;
