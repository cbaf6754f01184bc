//! What is read of a file at the most.

/// The largest `data.pkl` that is read, in bytes. The pickle of 100 000 tensors has about 25 MB.
pub const MAX_PICKLE: u64 = 256 << 20;
/// The largest central directory that is read, in bytes.
pub const MAX_DIRECTORY: u64 = 256 << 20;
/// The most entries that an archive may have; a storage is one entry.
pub const MAX_ENTRIES: u64 = 1 << 20;
