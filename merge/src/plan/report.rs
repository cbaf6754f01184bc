//! What a person reads before a merge: adapters, replacements, conflicts, warnings.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::adapter::config::AdapterConfig;
use crate::adapter::edit::{Change, Resolved};
use crate::checkpoint::files::{DIGESTS, Fate, FileFate};
use crate::output::Travel;

/// One adapter of the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AdapterReport {
    /// Its folder.
    pub path: String,
    /// `LoRA`, `DoRA`, `rsLoRA`, `trainable tokens`, and combinations.
    pub kind: String,
    /// Its weight.
    pub weight: f64,
    /// The ranks that occur.
    pub ranks: Vec<u64>,
    /// The scales that occur (alpha over r, times the weight).
    pub scales: Vec<f64>,
    /// Modules with a low-rank delta.
    pub modules: u64,
    /// Tensors that it replaces.
    pub replaced: u64,
    /// Embedding rows that it replaces.
    pub token_rows: u64,
    /// Keys left out on purpose, with the reason.
    pub ignored: Vec<(String, String)>,
    /// What becomes of each file of its folder.
    #[serde(default)]
    pub files: Vec<FileFate>,
}

impl AdapterReport {
    pub(super) fn new(path: &str, config: &AdapterConfig, weight: f64, resolved: &Resolved) -> Self {
        let mut ranks = BTreeSet::new();
        let mut scales: Vec<f64> = Vec::new();
        let (mut modules, mut replaced, mut rows, mut dora, mut embedding) = (0, 0, 0, false, false);
        for edit in &resolved.edits {
            match &edit.change {
                Change::Delta(delta) => {
                    modules += 1;
                    ranks.insert(delta.rank);
                    scales.push(delta.scale * weight);
                    dora |= delta.magnitude.is_some();
                    embedding |= delta.embedding;
                }
                Change::Replace { .. } => replaced += 1,
                Change::Rows { rows: r, .. } => rows += r.len() as u64,
                Change::Multiply { .. } => modules += 1,
                Change::Apply(applied) => {
                    modules += 1;
                    ranks.extend(applied.rank);
                }
                Change::Bias { .. } => {}
            }
        }
        scales.sort_by(f64::total_cmp);
        scales.dedup();
        let mut kind = if modules > 0 { config.kind.title(dora).to_owned() } else { String::new() };
        for (there, name) in [(embedding, "embedding"), (replaced > 0, "whole modules"), (rows > 0, "trainable tokens")]
        {
            if there {
                kind = if kind.is_empty() { name.to_owned() } else { format!("{kind} + {name}") };
            }
        }
        AdapterReport {
            path: path.to_owned(),
            kind,
            weight,
            ranks: ranks.into_iter().collect(),
            scales,
            modules,
            replaced,
            token_rows: rows,
            ignored: resolved.ignored.clone(),
            files: Vec::new(),
        }
    }
}

/// A parameter that is quantised in the base and not in the output, although the output is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Left {
    /// Its name.
    pub name: String,
    /// The parameter that takes it along, since loaders take both quantised or none; `None` if an adapter changes it.
    pub with: Option<String>,
    /// The bytes of its codes and scales.
    pub stored: u64,
    /// The bytes of its values in the output.
    pub written: u64,
}

/// A parameter that is changed, stays quantised and is encoded again. How much of the delta survives is measured before
/// anything of it is made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Encoded {
    /// Its name.
    pub name: String,
    /// How it is stored.
    pub scheme: String,
    /// The bytes of its codes and scales, before and after.
    pub bytes: u64,
}

/// What the plan tells.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Report {
    /// The adapters as they are applied.
    pub adapters: Vec<AdapterReport>,
    /// Replaced tensors: name, adapter number from 0, shape before, shape after.
    pub replaced: Vec<(String, u16, Vec<u64>, Vec<u64>)>,
    /// Rows of the input embedding before and after, where they differ.
    pub vocabulary: Option<(u64, u64)>,
    /// What the order of the adapters decides.
    pub conflicts: Vec<String>,
    /// What deserves a look.
    pub warnings: Vec<String>,
    /// What is done and may surprise.
    pub notes: Vec<String>,
    /// Weights that become what a quantised layer made of them (`--base-as`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seen: Vec<String>,
    /// Tensors that an adapter changes.
    pub tensors_changed: u64,
    /// Tensors that are copied.
    pub tensors_copied: u64,
    /// Tensors that no adapter changes, and that are written as values instead of codes.
    #[serde(default)]
    pub tensors_dequantised: u64,
    /// Parameters that leave the quantised set.
    #[serde(default)]
    pub left: Vec<Left>,
    /// Parameters that are encoded again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requantised: Vec<Encoded>,
    /// What becomes of each file of the base.
    #[serde(default)]
    pub base_files: Vec<FileFate>,
    /// What becomes of each file of the folder whose tokenizer was asked for.
    #[serde(default)]
    pub tokenizer_files: Vec<FileFate>,
}

impl Report {
    /// One line on the files of the inputs that the output does not get; `None` if it gets all of them.
    pub fn stays(&self) -> Option<String> {
        let of_adapters = self.adapters.iter().flat_map(|a| &a.files);
        let all = self.base_files.iter().chain(of_adapters).chain(&self.tokenizer_files);
        // The digests of the base are of use to the merge, and nobody looks for them in the output.
        let stays: Vec<&FileFate> = all.filter(|file| file.fate == Fate::Stays && file.name != DIGESTS).collect();
        let largest = stays.iter().max_by_key(|file| file.size)?;
        let count: u64 = stays.iter().map(|file| file.files).sum();
        let files = if count == 1 {
            "1 file of the inputs stays".to_owned()
        } else {
            format!("{count} files of the inputs stay")
        };
        Some(format!("{files} behind, the largest is {}; shardfuse plan lists each with its reason", largest.name))
    }

    /// Adds what becomes of the files of the inputs.
    pub(super) fn travels(&mut self, travel: Travel) {
        self.notes.extend(travel.note);
        self.notes.extend(travel.card);
        self.warnings.extend(travel.warning);
        self.base_files = travel.base;
        for adapter in &mut self.adapters {
            if let Some((_, files)) = travel.adapters.iter().find(|(url, _)| *url == adapter.path) {
                adapter.files = files.clone();
            }
        }
        self.tokenizer_files = travel.tokenizer;
    }

    pub(super) fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    pub(super) fn note(&mut self, text: String) {
        self.notes.push(text);
    }

    pub(super) fn conflict(&mut self, text: String) {
        self.conflicts.push(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_on_files_that_stay_counts_them_and_names_the_largest() {
        let file = |name: &str, size: u64, files: u64, fate: Fate| FileFate {
            name: name.to_owned(),
            size,
            files,
            fate,
            why: String::new(),
        };
        let mut report = Report { base_files: vec![file("README.md", 900, 1, Fate::Travels)], ..Report::default() };
        assert_eq!(report.stays(), None);
        report.base_files.push(file(DIGESTS, 800, 1, Fate::Stays));
        assert_eq!(report.stays(), None);
        report.tokenizer_files = vec![file("x", 5, 1, Fate::Stays)];
        assert!(report.stays().unwrap().starts_with("1 file of the inputs stays behind, the largest is x;"));
        report.base_files.push(file("onnx/", 70, 3, Fate::Stays));
        assert!(report.stays().unwrap().starts_with("4 files of the inputs stay behind, the largest is onnx/;"));
    }
}
