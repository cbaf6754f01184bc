//! The files beside the weights: the base's, and a tokenizer that may come from elsewhere.

use std::collections::{BTreeMap, HashSet};

use super::card::{self, CARD, Written};
use super::contents::{Contents, SmallFile};
use crate::base::quantisation::{self, Fate};
use crate::checkpoint::files::{self, FileFate};
use crate::checkpoint::sidecar;
use crate::inventory::{Inventory, ObjectId, Sidecar};
use crate::json;
use crate::spec::{MergeSpec, Tokenizer};

/// Which files of the inputs the output gets, for the report.
#[derive(Debug, Default)]
pub struct Travel {
    /// Where the tokenizer comes from, if it is not the base's.
    pub note: Option<String>,
    /// What became of the base's card.
    pub card: Vec<String>,
    /// What deserves a look.
    pub warning: Option<String>,
    /// What becomes of each file of the base.
    pub base: Vec<FileFate>,
    /// The same for each adapter, by its URL.
    pub adapters: Vec<(String, Vec<FileFate>)>,
    /// The same for the folder whose tokenizer was asked for.
    pub tokenizer: Vec<FileFate>,
}

/// The files by name, and what becomes of those of the inputs.
pub(super) fn sidecars(
    spec: &MergeSpec,
    inventory: &Inventory,
    contents: &Contents,
) -> (Vec<(String, SmallFile)>, Travel) {
    let mut files: BTreeMap<String, ObjectId> =
        inventory.base.sidecars.iter().map(|s| (s.name.clone(), s.object)).collect();
    let mut changed = BTreeMap::new();
    if !matches!(contents.quantisation, Fate::Stays) {
        let repeated = inventory.base.repeated.iter();
        changed.extend(
            repeated.filter_map(|(name, held)| Some((name.as_str(), contents.quantisation.of_file(name, held)?))),
        );
        files.retain(|name, _| !quantisation::is_repeated_in(name) || changed.contains_key(name.as_str()));
    }
    let mut travel = Travel::default();
    let mut whose = "";
    if let Some((list, from)) = tokenizer(spec, inventory, contents) {
        if list.iter().any(|s| sidecar::is_vocabulary(&s.name)) {
            files.retain(|name, _| !sidecar::is_vocabulary(name));
        }
        for s in list.iter().filter(|s| sidecar::is_tokenizer(&s.name)) {
            files.insert(s.name.clone(), s.object);
        }
        travel.note = Some(format!("tokenizer files come from {from}"));
        whose = from;
    } else if contents.vocabulary.is_some() {
        travel.warning =
            Some("the vocabulary grows, and no adapter brings a tokenizer: the output keeps the base's".into());
    }
    let card = card::card(spec, inventory, &mut files);
    let taken: HashSet<ObjectId> = files.values().copied().collect();
    let replaced = card.as_ref().is_some_and(|card| card.replaced);
    let settled = |files: &[FileFate], carried: &[Sidecar]| settle(files, carried, &taken, (whose, replaced));
    travel.base = settled(&inventory.base.files, &inventory.base.sidecars);
    travel.adapters = inventory.adapters.iter().map(|a| (a.url.clone(), settled(&a.files, &a.sidecars))).collect();
    if let Some(tokenizer) = &inventory.tokenizer {
        travel.tokenizer = settled(&tokenizer.files, &tokenizer.sidecars);
    }
    let mut file = |(name, object): (String, ObjectId)| match changed.remove(name.as_str()) {
        Some(held) => (name, SmallFile::Text(format!("{}\n", json::render(&held)))),
        None => (name, SmallFile::Copy(object)),
    };
    let mut all: Vec<(String, SmallFile)> = files.into_iter().map(&mut file).collect();
    if let Some(Written { text, notes, .. }) = card {
        travel.card = notes;
        all.push((CARD.to_owned(), SmallFile::Text(text)));
        all.sort_by(|one, other| one.0.cmp(&other.0));
    }
    (all, travel)
}

/// The files of the folder that the tokenizer comes from, and its URL; `None` for the base.
fn tokenizer<'a>(
    spec: &'a MergeSpec,
    inventory: &'a Inventory,
    contents: &Contents,
) -> Option<(&'a [Sidecar], &'a str)> {
    match &spec.tokenizer {
        Tokenizer::Base => None,
        Tokenizer::Folder(path) => inventory.tokenizer.as_ref().map(|t| (t.sidecars.as_slice(), path.as_str())),
        Tokenizer::Auto => {
            let adapters = contents.in_force.iter().rev().map(|i| &inventory.adapters[*i]);
            adapters
                .into_iter()
                .find(|a| a.sidecars.iter().any(|s| sidecar::is_tokenizer(&s.name)))
                .map(|a| (a.sidecars.as_slice(), a.url.as_str()))
        }
    }
}

/// The fates of a folder's files, once it is known which of those that could travel do.
fn settle(
    files: &[FileFate],
    carried: &[Sidecar],
    taken: &HashSet<ObjectId>,
    (whose, card): (&str, bool),
) -> Vec<FileFate> {
    let stays: HashSet<&str> = carried.iter().filter(|s| !taken.contains(&s.object)).map(|s| s.name.as_str()).collect();
    let why = match whose {
        "" => "the tokenizer is the base's".to_owned(),
        whose => format!("the tokenizer comes from {whose}"),
    };
    let settled = |file: &FileFate| match file.fate == files::Fate::Travels && stays.contains(file.name.as_str()) {
        true if quantisation::is_repeated_in(&file.name) => FileFate {
            fate: files::Fate::Stays,
            why: "the output is not quantised as it says".to_owned(),
            ..file.clone()
        },
        true if card && file.name == CARD => FileFate {
            fate: files::Fate::Stays,
            why: "the card of the merge that made the base".to_owned(),
            ..file.clone()
        },
        true => FileFate { fate: files::Fate::Stays, why: why.clone(), ..file.clone() },
        false => file.clone(),
    };
    files.iter().map(settled).collect()
}
