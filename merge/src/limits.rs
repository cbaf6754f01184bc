//! Bounds of what a plan and a message may hold, shared by those who make and those who check them.

/// The longest URL, in bytes. S3 keys have 1,024, doubled names and percent signs on top.
pub const MAX_URL: usize = 8 << 10;
/// The longest name of a tensor or merge, upload id or pin, in bytes.
pub const MAX_NAME: usize = 16 << 10;
/// The most dimensions of a tensor.
pub const MAX_DIMS: usize = 16;
/// The most bits of a tensor, counting an empty dimension as one: products of sizes are far from overflow.
pub const MAX_BITS: u64 = 1 << 56;
/// The largest object, in bytes: beyond what any store holds, far from overflow.
pub const MAX_OBJECT: u64 = 1 << 50;
/// The smallest part, in bytes: what BLAKE3 digests by itself.
pub const MIN_PART: u64 = 1 << 10;
/// The largest part, in bytes. Stores take 5 GiB at the most, and parts are powers of two.
pub const MAX_PART: u64 = 4 << 30;
/// The largest rank.
pub const MAX_RANK: u64 = 1 << 16;
/// The most factors that the report of one part may name: two for each of 50,000 tensors. The coordinator ends the session of
/// a worker that names more.
pub const MAX_FACTORS: usize = 100_000;
/// The longest message between coordinator and worker, in bytes.
pub const MAX_MESSAGE: u64 = 16 << 20;
