//! Formats: how tensors become files. One file for each.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::segment::Places;
use crate::error::Result;
use crate::inventory::Shard;
use crate::recipe::Placed;

mod safetensors;

/// A file's format, with what the format has to know about the file beside its tensors.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// A header, then the tensors without gaps.
    Safetensors {
        /// The `__metadata__` of the header.
        metadata: BTreeMap<String, String>,
    },
}

impl Format {
    /// The format of a merge's files, with the metadata of the base's first file.
    pub fn of(base: &BTreeMap<String, String>) -> Format {
        Format::Safetensors { metadata: safetensors::metadata(base) }
    }

    /// The name of a file of the output; `own` is the one that the base's file has.
    pub fn file_name(own: Option<&str>, number: usize, total: usize, single: bool) -> String {
        safetensors::file_name(own, number, total, single)
    }

    /// The name of the index.
    pub fn index_name() -> &'static str {
        safetensors::INDEX
    }

    /// Gives the tensors of a file their places. `after` is where the data of the base's file of this format begins.
    ///
    /// # Errors
    /// `unsupported` for a tensor that the format cannot hold.
    pub fn place(&self, tensors: &mut [Placed], after: Option<u64>) -> Result<Places> {
        match self {
            Format::Safetensors { metadata } => safetensors::place(tensors, metadata, after),
        }
    }

    /// The literal bytes of a file, one after another; `length` is how many they are.
    pub fn literals(&self, tensors: &[Placed], length: u64) -> Vec<u8> {
        match self {
            Format::Safetensors { metadata } => safetensors::padded(tensors, metadata, length),
        }
    }

    /// Where the data of a file of the base begin, if it is of this format.
    pub fn begins(&self, shard: &Shard) -> Option<u64> {
        match self {
            Format::Safetensors { .. } => safetensors::begins(shard),
        }
    }
}
