//! `shardfuse.json`: what the output was made of, and the digests of its files.

use serde::{Deserialize, Serialize};

use crate::inventory::Object;
use crate::plan::lineage::Lineage;
use crate::spec::MergeSpec;
use crate::statistic::survival::Survived;

/// The name of the manifest in the output's folder.
pub const MANIFEST: &str = "shardfuse.json";
/// The format's number. From 2 on a file need not have a digest.
pub const FORMAT: u32 = 2;

/// A published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestFile {
    /// The name below the folder.
    pub name: String,
    /// The size in bytes.
    pub size: u64,
    /// BLAKE3 of the whole file, as `b3sum` prints it; `None` if the store copied some of its bytes and nobody read them.
    pub blake3: Option<String>,
    /// For a weight file the BLAKE3 chaining values of its parts, in their order, so that a damaged byte is found without reading
    /// the inputs again; `None` for a part that nobody read. Outputs of earlier versions have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<Option<String>>,
    /// One past the last byte of each part. Empty where all parts have `spec.part_size` bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ends: Vec<u64>,
    /// The bytes that the store copied and nobody read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unread: Vec<Unread>,
}

impl ManifestFile {
    /// How many bytes the store copied and nobody read.
    pub fn unread_bytes(&self) -> u64 {
        self.unread.iter().map(|unread| unread.length).sum()
    }
}

/// Bytes of a file that the store copied from an input and nobody read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    /// The first byte in the file.
    pub offset: u64,
    /// How many they are.
    pub length: u64,
    /// The input.
    pub url: String,
    /// Its version, as its store names it.
    pub pin: String,
    /// Their first byte in the input.
    pub from: u64,
}

/// The manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// The program and version that wrote it.
    pub made_by: String,
    /// The plan's digest.
    pub plan: String,
    /// The device class that did the arithmetic.
    pub device_class: String,
    /// The spec.
    pub spec: MergeSpec,
    /// What each adapter was trained on, in the order in which they are applied.
    #[serde(default)]
    pub lineage: Vec<Lineage>,
    /// The inputs, with their pins.
    pub inputs: Vec<Object>,
    /// Every file of the output but this one.
    pub files: Vec<ManifestFile>,
    /// What was seen while merging, such as deltas without effect.
    pub notes: Vec<String>,
    /// How much of each delta survived where weights were encoded again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub survived: Vec<Survived>,
}
