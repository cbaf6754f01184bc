//! Decisions on single files, and what they mean for a whole listing.

use std::collections::BTreeMap;

use super::asked::Asked;
use super::fate::{Fate, FileFate, Found, What};
use crate::error::{Error, Kind, Result};

/// A decision on one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
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
pub(super) struct Refusal {
    pub(super) kind: Kind,
    /// Follows the name.
    pub(super) what: String,
    pub(super) hint: String,
}

/// Why a file stays that the user named.
const IGNORED: &str = "left out on request (--ignore-file)";

/// How many files a refusal names.
const NAMED: usize = 20;

/// Applies a rule to every file of a listing.
pub(super) fn sort(found: &[Found], asked: &Asked<'_>, rule: impl Fn(&str) -> Verdict) -> Result<Vec<FileFate>> {
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
