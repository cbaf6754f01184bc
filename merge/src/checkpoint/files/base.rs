//! The files of a base: everything travels but weights and what belongs to them.

use std::collections::HashSet;

use super::asked::Asked;
use super::fate::{FileFate, Found};
use super::names::{self, BASE_FILES, BASE_FOLDERS, TRAINING_FILES, TRAINING_FOLDERS};
use super::verdict::{Refusal, Verdict, sort};
use crate::error::{Kind, Result};

/// What becomes of the files of a base. `weights` are the files that hold its tensors, and their index.
///
/// # Errors
/// `missing_file` for what would travel and cannot be read or is not complete; `usage` where `--ignore-file` names what the
/// merge needs.
pub fn base(found: &[Found], weights: &[String], asked: &Asked<'_>) -> Result<Vec<FileFate>> {
    let weights = weights.iter().map(String::as_str).collect();
    sort(found, asked, |name| verdict(name, &weights, asked))
}

fn verdict(name: &str, weights: &HashSet<&str>, asked: &Asked<'_>) -> Verdict {
    if weights.contains(name) {
        return if name.ends_with(".json") { Verdict::Read } else { Verdict::Merged };
    }
    if name == "config.json" {
        return Verdict::Read;
    }
    stays(name, asked, &[BASE_FOLDERS, TRAINING_FOLDERS])
        .or_else(|| incomplete(name))
        .or_else(|| {
            let top = !name.contains('/');
            let why = [BASE_FILES, TRAINING_FILES].into_iter().find_map(|table| names::entry(table, name));
            why.filter(|_| top).map(|why| Verdict::Stays(why.to_owned()))
        })
        .unwrap_or(Verdict::Travels)
}

/// The verdict on a file in a folder that stays behind as a whole.
pub(super) fn stays(name: &str, asked: &Asked<'_>, folders: &[&names::Names]) -> Option<Verdict> {
    if let Some(inner) = asked.inner.iter().find(|folder| name.starts_with(folder.as_str())) {
        return Some(Verdict::Folder(inner.clone(), "another input of this merge".to_owned()));
    }
    if let Some(hidden) = names::hidden_folder(name) {
        // huggingface_hub keeps the beginnings of files here that are missing where they should be.
        if name.starts_with(".cache/huggingface/") && name.ends_with(".incomplete") {
            return incomplete(name);
        }
        return Some(Verdict::Folder(hidden.to_owned(), "a hidden folder".to_owned()));
    }
    let (first, _) = name.split_once('/')?;
    let why = folders.iter().find_map(|table| names::entry(table, first))?;
    Some(Verdict::Folder(format!("{first}/"), why.to_owned()))
}

/// The refusal of a file that a download has not finished.
pub(super) fn incomplete(name: &str) -> Option<Verdict> {
    names::is_partial(name).then(|| {
        Verdict::Refused(Refusal {
            kind: Kind::MissingFile,
            what: "is left of a download or a copy that was not finished".to_owned(),
            hint: format!("finish it, or remove what is left of it, or leave the file out with --ignore-file {name}"),
        })
    })
}
