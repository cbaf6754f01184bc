//! What kind of store holds a location.

use std::fmt;

/// What kind of store holds a location.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Scheme {
    /// A file system: `file://` or a plain path.
    File,
    /// Amazon S3, or a store that speaks its protocol.
    S3,
    /// Google Cloud Storage.
    Gs,
    /// Azure Blob Storage, `az://` and `abfss://`.
    Azure,
    /// A web server without encryption, read only.
    Http,
    /// A web server, read only.
    Https,
    /// The Hugging Face hub, read only.
    Hub,
}

impl Scheme {
    /// What stands before the colon.
    pub fn name(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::S3 => "s3",
            Self::Gs => "gs",
            Self::Azure => "az",
            Self::Http => "http",
            Self::Https => "https",
            Self::Hub => "hf",
        }
    }

    /// Whether nothing can be written there.
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::Http | Self::Https | Self::Hub)
    }

    /// Whether a part's id names only its place: other bytes that are put there later have the same id, and a completion does
    /// not notice them. In other stores an id names the bytes.
    pub fn has_part_ids_of_places(self) -> bool {
        matches!(self, Self::File)
    }
}

impl fmt::Display for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
