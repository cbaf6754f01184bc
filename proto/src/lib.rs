//! The wire of shardfuse: the `shardfuse.v1` messages and services, and their conversion to the domain.
//!
//! Nothing is decided here. [`convert`] turns messages into domain types and refuses what is missing or out of bounds.

pub mod convert;
pub mod trace;

/// `shardfuse.v1`.
#[allow(missing_docs, clippy::all, unused_qualifications, reason = "generated; the .proto files hold the comments")]
pub mod v1 {
    tonic::include_proto!("shardfuse.v1");
}

/// The descriptors of all files, for server reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/shardfuse.v1.bin"));

/// The version that both sides of a session must have.
pub const PROTOCOL_VERSION: u32 = 2;
/// The largest message, in bytes. Assignments are kept far below: [`convert::split`].
pub const MAX_MESSAGE: usize = shardfuse_merge::limits::MAX_MESSAGE as usize;
