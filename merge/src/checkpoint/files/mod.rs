//! What becomes of every file in the folder of a base or an adapter.
//!
//! Each file of a listing is merged, read, carried to the output, or left behind with a reason; what may hold trained
//! weights and is none of these is refused. [`base`] and [`adapter`] decide, `files::names` holds the tables, and the report of a
//! plan lists the outcome.

mod adapter;
mod base;
mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

pub use adapter::adapter;
pub use base::base;
pub use names::ASKED;

use crate::checkpoint::sidecar;
use crate::error::{Error, Kind, Result};

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

/// What the user and the merge say about the files of a folder.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Names whose tensors replace those of the base (`--extra-weights`).
    pub extra: &'a [String],
    /// Names that are left out (`--ignore-file`).
    pub ignore: &'a [String],
    /// Folders within this one that are inputs of their own, with `/` at the end.
    pub inner: &'a [String],
    /// Nothing is merged, somebody only looks: what would be refused stays behind.
    pub look: bool,
}

impl Asked<'_> {
    /// The name that was given for a file that is left out: its own, or a folder's.
    fn ignores(&self, name: &str) -> Option<&str> {
        self.ignore.iter().map(String::as_str).find(|asked| meets(asked, name))
    }

    fn takes(&self, name: &str) -> bool {
        self.extra.iter().any(|n| n == name)
    }
}

/// A decision on one file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Merged,
    Read,
    Travels,
    /// Stays behind by itself.
    Stays(String),
    /// Stays behind with everything else in this folder.
    Folder(String, String),
    /// Can be neither used nor left.
    Refused(Refusal),
}

/// Why a file ends the merge.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    kind: Kind,
    /// Follows the name.
    what: String,
    hint: String,
}

/// Why a file stays that the user named.
const IGNORED: &str = "left out on request (--ignore-file)";

/// Whether a name that was given is that of a file, or of a folder that it lies in.
fn meets(asked: &str, name: &str) -> bool {
    asked == name || asked.ends_with('/') && name.starts_with(asked)
}

/// How many files a refusal names.
const NAMED: usize = 20;

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

/// Applies a rule to every file of a listing.
fn sort(found: &[Found], asked: &Asked<'_>, rule: impl Fn(&str) -> Verdict) -> Result<Vec<FileFate>> {
    let mut fates = Vec::new();
    let mut folders: BTreeMap<(String, String), (u64, u64)> = BTreeMap::new();
    let mut refused: Vec<(&str, Refusal)> = Vec::new();
    for file in found {
        let verdict = match asked.ignores(&file.name) {
            Some(_) if matches!(rule(&file.name), Verdict::Merged | Verdict::Read) => {
                return Err(Error::new(
                    Kind::Usage,
                    format!("--ignore-file names {}, which the merge cannot do without", file.name),
                ));
            }
            Some(name) if name.ends_with('/') => Verdict::Folder(name.to_owned(), IGNORED.to_owned()),
            Some(_) => Verdict::Stays(IGNORED.to_owned()),
            None => rule(&file.name),
        };
        let verdict = match (&file.what, verdict) {
            (What::File, verdict) | (_, verdict @ Verdict::Folder(..)) => verdict,
            (What::Alias(other), _) => Verdict::Stays(format!("a link to a folder that is listed as {other}")),
            (What::Unreadable(why), Verdict::Stays(reason)) => Verdict::Stays(format!("{reason}; it {why}")),
            (What::Unreadable(why), verdict) => {
                let mut hint = "a download or a copy is not complete: fetch the folder again".to_owned();
                if !matches!(verdict, Verdict::Merged | Verdict::Read) {
                    hint += &format!(", or leave the file out with --ignore-file {}", file.name);
                }
                Verdict::Refused(Refusal { kind: Kind::MissingFile, what: why.clone(), hint })
            }
        };
        let (fate, why) = match verdict {
            Verdict::Refused(refusal) if asked.look => (Fate::Stays, refusal.what),
            Verdict::Merged => (Fate::Merged, String::new()),
            Verdict::Read => (Fate::Read, String::new()),
            Verdict::Travels => (Fate::Travels, String::new()),
            Verdict::Stays(why) => (Fate::Stays, why),
            Verdict::Folder(folder, why) => {
                let sum = folders.entry((folder, why)).or_default();
                *sum = (sum.0 + 1, sum.1.saturating_add(file.size.unwrap_or(0)));
                continue;
            }
            Verdict::Refused(why) => {
                refused.push((&file.name, why));
                continue;
            }
        };
        fates.push(FileFate { name: file.name.clone(), size: file.size.unwrap_or(0), files: 1, fate, why });
    }
    if let Some((_, first)) = refused.first() {
        let said = refused.iter().take(NAMED).map(|(name, why)| format!("{name} {}", why.what));
        let mut message = said.collect::<Vec<_>>().join("; ");
        if let more @ 1.. = refused.len().saturating_sub(NAMED) {
            message += &format!("; and {more} more");
        }
        return Err(Error::new(first.kind, message).hint(first.hint.clone()));
    }
    fates.extend(folders.into_iter().map(|((name, why), (files, size))| FileFate {
        name,
        size,
        files,
        fate: Fate::Stays,
        why,
    }));
    fates.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(fates)
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
