//! Checkpoint formats: safetensors headers, PyTorch pickles, indexes, and what becomes of every file of a folder.

pub mod files;
pub mod header;
pub mod index;
pub mod instead;
pub mod meant;
pub mod pickle;
pub mod pointer;
pub mod sidecar;
