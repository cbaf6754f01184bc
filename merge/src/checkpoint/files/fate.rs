//! Files of a listing, and what becomes of them.

use serde::{Deserialize, Serialize};

/// What is known of a file before it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The name below the folder, with `/`.
    pub name: String,
    /// The size in bytes, where the listing tells it.
    pub size: Option<u64>,
    /// What stands under the name.
    pub what: What,
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A file.
    File,
    /// Something that cannot be read. The text follows the name: `is a link to x, which is not there`.
    Unreadable(String),
    /// A link to a folder that the listing holds under this other name.
    Alias(String),
}

/// What becomes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fate {
    /// Its tensors go into the output.
    Merged,
    /// It is read to plan the merge.
    Read,
    /// The output gets it.
    Travels,
    /// The output does not get it.
    Stays,
}

/// A file, or all files of a folder that share one fate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFate {
    /// The name below the input's folder; a folder's ends in `/`.
    pub name: String,
    /// The size in bytes of all of it.
    pub size: u64,
    /// How many files it is.
    pub files: u64,
    /// What becomes of it.
    pub fate: Fate,
    /// Why, where it stays.
    pub why: String,
}
