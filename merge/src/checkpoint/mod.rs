//! Checkpoint formats: safetensors headers, PyTorch pickles, indexes, and which files of a folder travel with a model.

pub mod header;
pub mod index;
pub mod pickle;
pub mod pointer;
pub mod sidecar;
