//! The files of an adapter: only weights matter, and none of them may be lost.

use std::collections::{BTreeSet, HashSet};

use super::asked::Asked;
use super::base::{incomplete, stays};
use super::fate::{FileFate, Found};
use super::names::{self, KNOWN_WEIGHTS, TRAINED, TRAINING_FILES, TRAINING_FOLDERS};
use super::verdict::{Refusal, Verdict, sort};
use crate::checkpoint::sidecar;
use crate::error::{Error, Kind, Result};

/// What becomes of the files of an adapter. `own` are the files that hold its low-rank tensors, and their index. Other
/// files that are [`super::Fate::Merged`] hold replacements.
///
/// Tokenizer files count as travelling; whether they do is decided when the merge is planned.
///
/// # Errors
/// `unused_file` for weight files that are neither merged nor known to be superfluous, `missing_file` for what is not
/// complete, `usage` where a flag names a file that cannot be meant.
pub fn adapter(found: &[Found], own: &[String], asked: &Asked<'_>) -> Result<Vec<FileFate>> {
    if let Some(name) = own.iter().find(|name| asked.takes(name)) {
        return Err(Error::new(Kind::Usage, format!("--extra-weights names {name}, which is the adapter's own file")));
    }
    let folders = found.iter().filter_map(|f| f.name.strip_suffix("adapter_config.json"));
    let others: BTreeSet<&str> = folders.filter(|folder| folder.ends_with('/')).collect();
    let names: HashSet<&str> = own.iter().map(String::as_str).collect();
    sort(found, asked, |name| match names.contains(name) {
        true if name.ends_with(".json") => Verdict::Read,
        true => Verdict::Merged,
        false => verdict(name, own, asked, &others),
    })
}

/// The verdict on a file that is not the adapter's own.
fn verdict(name: &str, own: &[String], asked: &Asked<'_>, others: &BTreeSet<&str>) -> Verdict {
    if name == "adapter_config.json" {
        return Verdict::Read;
    }
    if asked.takes(name) {
        return Verdict::Merged;
    }
    if let Some(verdict) = stays(name, asked, &[TRAINING_FOLDERS]).or_else(|| incomplete(name)) {
        return verdict;
    }
    let top = !name.contains('/');
    if top && TRAINED.contains(&name) {
        return Verdict::Merged;
    }
    if let Some(why) = names::entry(TRAINING_FILES, name).filter(|_| top) {
        return Verdict::Stays(why.to_owned());
    }
    let pickled = ["adapter_model.bin", "adapter_model.bin.index.json", "adapter_model-*-of-*.bin"];
    if let Some(first) = own.first().filter(|own| own.starts_with("adapter_model") && own.contains(".safetensors"))
        && pickled.iter().any(|pattern| names::matches(pattern, name))
    {
        return Verdict::Stays(format!("the adapter in another format: {first} counts"));
    }
    if sidecar::is_tokenizer(name) {
        return Verdict::Travels;
    }
    let another = others.iter().find(|folder| name.starts_with(**folder));
    match another {
        Some(folder) => Verdict::Folder((*folder).to_owned(), "another adapter".to_owned()),
        None if names::is_weights(name) => weights(name),
        None => match name.split_once('/') {
            Some((first, _)) => Verdict::Folder(format!("{first}/"), OTHER.to_owned()),
            None => Verdict::Stays(OTHER.to_owned()),
        },
    }
}

const OTHER: &str = "no part of what is merged";

/// The refusal of a weight file.
fn weights(name: &str) -> Verdict {
    let last = name.rsplit('/').next().unwrap_or(name);
    let what = names::entry(KNOWN_WEIGHTS, last).unwrap_or("is a weight file that is no part of the adapter");
    let folder = name.rsplit_once('/').map(|(folder, _)| format!(", --ignore-file {folder}/ the whole folder"));
    Verdict::Refused(Refusal {
        kind: Kind::UnusedFile,
        what: what.to_owned(),
        hint: format!(
            "--extra-weights {name} takes its tensors in place of the base's, --ignore-file {name} leaves it out{}",
            folder.unwrap_or_default()
        ),
    })
}
