//! Places as people type them.

use shardfuse_merge::{Error, Kind, Result};
use shardfuse_store::Location;

/// A URL, or a path that starts at the current folder.
pub fn parse(text: &str) -> Result<Location> {
    let here = std::env::current_dir()
        .map_err(|e| Error::new(Kind::Io, format!("the current folder cannot be determined: {e}")))?;
    Location::parse(text, &here).map_err(|e| Error::new(Kind::Usage, e.chain()))
}
