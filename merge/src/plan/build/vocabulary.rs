//! A vocabulary that grows: both embeddings together, and where config.json says its size.

use super::Builder;
use crate::error::{Error, Kind, Result};
use crate::output::levels;
use crate::tensor::matrix;

/// A new size of the vocabulary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Vocabulary {
    /// Rows of the embedding.
    pub rows: u64,
    /// Only the levels of config.json with this value are about this embedding; `None` where its name is known, and all
    /// levels with the key are.
    pub only: Option<u64>,
}

impl Builder<'_> {
    /// The size of the vocabulary, if it changes.
    ///
    /// # Errors
    /// If the embeddings end with different sizes, or it is not known where config.json says the size.
    pub(super) fn vocabulary(&mut self) -> Result<Option<Vocabulary>> {
        let Some((input, output)) = self.sides else { return self.unknown_vocabulary() };
        let rows = self.rows_of(input)?;
        let base = self.inventory.base.shards.iter().flat_map(|s| &s.tensors).find(|t| t.name == input);
        let base_rows = base.map(|t| matrix(&t.shape).0);
        if Some(rows) == base_rows {
            let head = self.by_name.get(output).map(|at| &self.slots[*at]);
            return match head {
                Some(head) if head.start_adapter.is_some() && self.rows_of(output)? != rows => {
                    Err(uneven(input, rows, output, self.rows_of(output)?))
                }
                _ => Ok(None),
            };
        }
        if self.by_name.contains_key(output) && self.rows_of(output)? != rows {
            return Err(uneven(input, rows, output, self.rows_of(output)?));
        }
        self.report.vocabulary = Some((base_rows.unwrap_or(0), rows));
        Ok(Some(Vocabulary { rows, only: None }))
    }

    /// An embedding under a name that is not known grows only where config.json has its size.
    fn unknown_vocabulary(&mut self) -> Result<Option<Vocabulary>> {
        let mut found: Option<Vocabulary> = None;
        for (name, _, before, _) in &self.report.replaced {
            let (before, after) = (matrix(before).0, matrix(&self.slots[self.by_name[name]].shape).0);
            if before == after {
                continue;
            }
            if !levels::holds(&self.inventory.base.config, "vocab_size", &before.into()) {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "{name} grows from {before} to {after} rows, and config.json has no vocab_size of {before} that would have to change"
                    ),
                ));
            }
            let vocabulary = Vocabulary { rows: after, only: Some(before) };
            if let Some(other) = found.filter(|other| *other != vocabulary) {
                return Err(uneven("one embedding", other.rows, name, after));
            }
            found = Some(vocabulary);
        }
        if let Some(Vocabulary { rows, only: Some(before) }) = found {
            let is_head = |name: &str| name == "lm_head.weight" || name.ends_with(".lm_head.weight");
            if let Some(head) = self.slots.iter().find(|s| is_head(&s.name) && matrix(&s.shape).0 == before) {
                return Err(uneven("the embedding", rows, &head.name, before));
            }
            self.report.vocabulary = Some((before, rows));
        }
        Ok(found)
    }

    /// The rows of an embedding.
    fn rows_of(&self, name: &str) -> Result<u64> {
        let slot = &self.slots[self.by_name[name]];
        match slot.shape.as_slice() {
            [rows, _, ..] => Ok(*rows),
            shape => Err(Error::new(
                Kind::ShapeMismatch,
                format!("the embedding {name} has the shape {shape:?}, expected a matrix of [vocabulary, width]"),
            )),
        }
    }
}

fn uneven(input: &str, rows: u64, output: &str, head: u64) -> Error {
    Error::new(Kind::ShapeMismatch, format!("the vocabulary would be uneven: {input} has {rows} rows, {output} has {head}"))
        .hint("an adapter that resizes the vocabulary must carry both embeddings: save it with modules_to_save [\"embed_tokens\", \"lm_head\"]")
}
