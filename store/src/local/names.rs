//! Names that the store gives to what it keeps beside the files, and the path of a location.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;

/// The name of the folder that holds what is in progress beside its target.
pub(super) const HIDDEN: &str = ".shardfuse";
/// The folder of the uploads in [`HIDDEN`].
pub(super) const UPLOADS: &str = "upload";
/// How the names of half-written small files begin.
pub(super) const TEMPORARY: &str = ".shardfuse-tmp-";
/// How the names begin that files have while [`Store::delete_if`](crate::Store::delete_if) looks at them.
pub(super) const ASIDE: &str = ".shardfuse-aside-";

/// The path of a location of this store.
pub(super) fn path(at: &Location) -> Result<&Path> {
    at.local_path().ok_or_else(|| Error::new(ErrorKind::Unsupported, at, "is not a local file"))
}
