//! What becomes of every file in the folder of a base or an adapter.
//!
//! Each file of a listing is merged, read, carried to the output, or left behind with a reason; what may hold trained
//! weights and is none of these is refused. [`base`] and [`adapter`] decide, `files::names` holds the tables, and the report of a
//! plan lists the outcome.

mod adapter;
mod asked;
mod base;
mod fate;
pub(super) mod names;
#[cfg(test)]
mod tests;
mod verdict;

use std::collections::BTreeSet;

pub use adapter::adapter;
pub use asked::Asked;
pub use base::base;
pub use fate::{Fate, FileFate, Found, What};
pub use names::DIGESTS;

use crate::checkpoint::sidecar;
use crate::error::{Error, Kind, Result};
use asked::meets;
use verdict::{Verdict, sort};

/// What becomes of the files of a folder whose tokenizer is asked for.
///
/// # Errors
/// `missing_file` for a tokenizer's file that cannot be read.
pub fn tokenizer(found: &[Found]) -> Result<Vec<FileFate>> {
    sort(found, &Asked::default(), |name| match sidecar::is_tokenizer(name) {
        true => Verdict::Travels,
        false => Verdict::Stays("no file of a tokenizer".to_owned()),
    })
}

/// Fails with `usage` where a name that the user gave is not met in any folder.
///
/// # Errors
/// `usage`, naming flag and file.
pub fn all_met<'a>(flag: &str, names: &[String], met: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut left: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for name in met {
        if left.is_empty() {
            break;
        }
        left.retain(|asked| !meets(asked, name));
    }
    match left.first() {
        Some(name) => Err(Error::new(Kind::Usage, format!("{flag} names {name}, which no folder of this merge holds"))
            .hint("the name is relative to the folder of the base or the adapter")),
        None => Ok(()),
    }
}
