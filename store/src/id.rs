//! Names that only the store which gave them out can read.

use std::fmt;

macro_rules! opaque {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// Takes back what a store gave out, from wherever it was written down.
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text to write down. Only equality means anything outside the store.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

opaque! {
    /// What an object is held to: two reads under one pin see the same bytes.
    ///
    /// For a local file it is the size and the time of modification, so it is the same on every machine that shares
    /// the file system; for an object store it will be the ETag.
    ///
    /// The three opaque names cannot be taken for one another:
    /// ```compile_fail,E0308
    /// let pin: shardfuse_store::Pin = shardfuse_store::PartId::new("7");
    /// ```
    Pin
}

opaque! {
    /// An upload in progress. It is no secret, but it comes back from journals and over the wire, so a store checks
    /// its form before using it.
    UploadId
}

opaque! {
    /// A part that was put. Completing names each part by this id.
    PartId
}
