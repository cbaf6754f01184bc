//! Restricted reader of PyTorch files (`pytorch_model.bin`, `adapter_model.bin`, `.pth`).
//!
//! Since PyTorch 1.6 `torch.save` writes a zip archive, its entries stored as they are: `NAME/data.pkl`, a pickle of the
//! state dict, and `NAME/data/KEY`, the bytes of one storage each
//! (<https://docs.pytorch.org/docs/stable/notes/serialization.html>). So once the pickle is understood, every tensor is a
//! range of the object, as in a safetensors file.
//!
//! Nothing is ever executed. The pickle runs on a machine whose values are plain data, which knows the opcodes that
//! `torch.save` uses and the few globals that stand for tensors, and refuses everything else by name. Every length is
//! checked against what is there before anything is allocated for it.
//!
//! The reader does no I/O: [`Reader::poll`] says which ranges it needs, the caller fetches and [`Reader::supply`]s them.
//! A file takes four rounds at most: both ends, the directory where it is longer than that, likewise the pickle, and the
//! local headers of all storages at once. (A pickle whose local header is padded beyond what torch does takes a fifth.)

mod archive;
mod cursor;
mod end;
mod fetched;
mod global;
mod limits;
mod machine;
mod memo;
mod opcode;
mod reader;
mod rebuild;
mod refuse;
mod stack;
mod state;
#[cfg(test)]
mod tests;
mod value;
mod view;

pub use crate::checkpoint::header::TensorEntry as PickledTensor;
pub use limits::{MAX_DIRECTORY, MAX_ENTRIES, MAX_PICKLE};
pub use reader::{Contents, Progress, Reader};
