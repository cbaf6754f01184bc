//! A vocabulary that grows: both embeddings together, and where config.json says its size.

use std::collections::HashMap;

use serde_json::Value;

use super::levels;
use super::tied::Sides;
use crate::error::{Error, Kind, Result};

/// A new size of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    /// Rows of the embedding.
    pub rows: u64,
    /// Only the levels of config.json with this value are about this embedding; `None` if its name is known, and all
    /// levels with the key are.
    pub only: Option<u64>,
}

/// A vocabulary that has another size than the base's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grown {
    /// The rows of the base's embedding.
    pub before: u64,
    /// The new size.
    pub vocabulary: Vocabulary,
}

/// A parameter before and after the adapters.
#[derive(Debug, Clone, Copy)]
pub struct Changed<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its shape in the base; `None` if the base does not store it.
    pub before: Option<&'a [u64]>,
    /// Its shape in the output.
    pub after: &'a [u64],
    /// Whether an adapter replaced it.
    pub replaced: bool,
}

/// All parameters of a merge.
#[derive(Debug)]
pub struct Parameters<'a> {
    all: Vec<Changed<'a>>,
    by_name: HashMap<&'a str, usize>,
}

impl<'a> Parameters<'a> {
    /// Takes all parameters.
    pub fn new(all: Vec<Changed<'a>>) -> Self {
        let by_name = all.iter().enumerate().map(|(at, p)| (p.name, at)).collect();
        Parameters { all, by_name }
    }

    fn get(&self, name: &str) -> Option<&Changed<'a>> {
        self.by_name.get(name).map(|at| &self.all[*at])
    }

    /// The size of the vocabulary if it changes, of a model whose embeddings have these names.
    ///
    /// # Errors
    /// If the embeddings end with different sizes.
    pub fn grown(&self, (input, output): Sides) -> Result<Option<Grown>> {
        let Some(embedding) = self.get(input) else { return Ok(None) };
        let rows = matrix_rows(input, embedding.after)?;
        let before = embedding.before.map(rows_of);
        let head = self.get(output);
        if Some(rows) == before {
            let Some(head) = head.filter(|head| head.replaced) else { return Ok(None) };
            return match matrix_rows(output, head.after)? {
                of_head if of_head != rows => Err(uneven(input, rows, output, of_head)),
                _ => Ok(None),
            };
        }
        if let Some(head) = head {
            let of_head = matrix_rows(output, head.after)?;
            if of_head != rows {
                return Err(uneven(input, rows, output, of_head));
            }
        }
        Ok(Some(Grown { before: before.unwrap_or(0), vocabulary: Vocabulary { rows, only: None } }))
    }

    /// The same for a model whose embeddings have no known names: one may grow only if config.json has its size.
    /// `replaced` holds the name and the shape before of each replacement.
    ///
    /// # Errors
    /// If the embeddings end with different sizes, or config.json does not have the old one.
    pub fn grown_by_size<'b>(
        &self,
        config: &Value,
        replaced: impl Iterator<Item = (&'b str, &'b [u64])>,
    ) -> Result<Option<Grown>> {
        let mut found: Option<Grown> = None;
        for (name, before) in replaced {
            let Some(now) = self.get(name) else { continue };
            let (before, after) = (rows_of(before), rows_of(now.after));
            if before == after {
                continue;
            }
            if !levels::holds(config, "vocab_size", &before.into()) {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "{name} grows from {before} to {after} rows, and config.json has no vocab_size of {before} that would have to change"
                    ),
                ));
            }
            let grown = Grown { before, vocabulary: Vocabulary { rows: after, only: Some(before) } };
            if let Some(other) = found.filter(|other| *other != grown) {
                return Err(uneven("one embedding", other.vocabulary.rows, name, after));
            }
            found = Some(grown);
        }
        if let Some(grown) = found {
            let is_head = |name: &str| name == "lm_head.weight" || name.ends_with(".lm_head.weight");
            if let Some(head) = self.all.iter().find(|p| is_head(p.name) && rows_of(p.after) == grown.before) {
                return Err(uneven("the embedding", grown.vocabulary.rows, head.name, grown.before));
            }
        }
        Ok(found)
    }
}

fn rows_of(dims: &[u64]) -> u64 {
    dims.first().copied().unwrap_or(1)
}

/// The rows of an embedding.
fn matrix_rows(name: &str, dims: &[u64]) -> Result<u64> {
    match dims {
        [rows, _, ..] => Ok(*rows),
        dims => Err(Error::new(
            Kind::ShapeMismatch,
            format!("the embedding {name} has the shape {dims:?}, expected a matrix of [vocabulary, width]"),
        )),
    }
}

fn uneven(input: &str, rows: u64, output: &str, head: u64) -> Error {
    Error::new(Kind::ShapeMismatch, format!("the vocabulary would be uneven: {input} has {rows} rows, {output} has {head}"))
        .hint("an adapter that resizes the vocabulary must carry both embeddings: save it with modules_to_save [\"embed_tokens\", \"lm_head\"]")
}
