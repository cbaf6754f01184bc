//! Edits of the two sides of a tied embedding.

use super::{Builder, Equal};
use crate::adapter::resolve::{Change, Edit, Origin};
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::tensor::DtypeExt;

impl Builder<'_> {
    /// What must be settled before an edit touches one side of the embeddings.
    ///
    /// # Errors
    /// If nothing tells whether the two are one tensor.
    pub(super) fn look_at_the_tie(&mut self) -> Result<()> {
        let Some((input, output)) = self.sides else { return Ok(()) };
        if self.tie.tied.is_none() {
            return Err(Error::new(Kind::BadConfig, "the adapter changes an embedding, and neither config.json nor the model type tells whether input and output embedding are one tensor")
                .hint("say so with --tied true or --tied false"));
        }
        if self.tied.is_some() && self.by_name.contains_key(output) && !self.tie.compared {
            // One would be overwritten with the other.
            return Err(Error::new(Kind::Internal, format!("{input} and {output} were not compared before planning")));
        }
        if self.tie.config_is_wrong && !self.untied {
            self.untied = true;
            self.report.note(format!(
                "the model is tied by its configuration, but {output} holds other values than {input}: they stay two tensors, and tie_word_embeddings becomes false"
            ));
        }
        Ok(())
    }

    /// In a tied model, turns edits of the two sides into edits of the shared tensor, or unties the model.
    ///
    /// - The same change on both sides (saved twice by `ensure_weight_tying`, or a resized base saved on both sides)
    ///   applies once; that the two are equal is checked before work starts.
    /// - LoRA or token rows on the input embedding change the shared tensor, as PEFT's merge does.
    /// - A module trained whole on one side, or anything on the output side alone, unties the model.
    pub(super) fn share(&mut self, number: u16, edits: Vec<Edit>, ensure: bool) -> Result<Vec<Edit>> {
        let Some((input, output)) = self.tied else { return Ok(edits) };
        let (outs, rest): (Vec<Edit>, Vec<Edit>) = edits.into_iter().partition(|e| e.tensor == output);
        let ins: Vec<&Edit> = rest.iter().filter(|e| e.tensor == input).collect();
        let shared = outs.iter().all(|out| {
            ins.iter().any(|inn| match (&inn.change, &out.change) {
                (Change::Replace { origin: a, .. }, Change::Replace { origin: b, .. }) => {
                    ensure || (*a == Origin::Resized && *b == Origin::Resized)
                }
                (Change::Rows { .. }, Change::Rows { .. }) => true,
                (Change::Pair(_), Change::Pair(_)) => ensure,
                _ => false,
            })
        });
        let trained_alone =
            outs.is_empty() && ins.iter().any(|e| matches!(e.change, Change::Replace { origin: Origin::Trained, .. }));
        if (outs.is_empty() && !trained_alone) || (!outs.is_empty() && shared) {
            for out in &outs {
                self.expect_equal(&ins, out)?;
            }
            if !ins.is_empty() {
                self.report.note(format!(
                    "adapter {}: the model is tied, {input} serves as {output} too and stays tied",
                    number + 1
                ));
            }
            return Ok(rest);
        }
        self.untie(number, input, output);
        Ok(rest.into_iter().chain(outs).collect())
    }

    fn expect_equal(&mut self, ins: &[&Edit], out: &Edit) -> Result<()> {
        let why = "both sides of a tied embedding carry it";
        for inn in ins {
            let (pairs, transposed) = match (&inn.change, &out.change) {
                (Change::Replace { source: a, .. }, Change::Replace { source: b, .. }) => (vec![(a, b)], false),
                (Change::Rows { source: a, rows: ra }, Change::Rows { source: b, rows: rb }) => {
                    if ra != rb {
                        return Err(Error::new(
                            Kind::Conflict,
                            format!("{} and {} name different token rows of one tied embedding", a.name, b.name),
                        ));
                    }
                    (vec![(a, b)], false)
                }
                (Change::Pair(e), Change::Pair(h)) if e.embedding && !h.embedding => {
                    (vec![(&e.a, &h.b), (&e.b, &h.a)], true)
                }
                (Change::Pair(e), Change::Pair(h)) => (vec![(&e.a, &h.a), (&e.b, &h.b)], false),
                _ => continue,
            };
            for (left, right) in pairs {
                self.must_equal(left, right, transposed, why)?;
            }
        }
        Ok(())
    }

    /// Notes that two tensors must hold the same values, or the same values transposed.
    pub(super) fn must_equal(&mut self, left: &Source, right: &Source, transposed: bool, why: &str) -> Result<()> {
        let shape: Vec<u64> =
            if transposed { right.shape.iter().rev().copied().collect() } else { right.shape.clone() };
        if left.shape != shape || left.dtype != right.dtype {
            let shown = |s: &Source| format!("{} ({} {:?})", s.name, s.dtype.name(), s.shape);
            return Err(Error::new(
                Kind::Conflict,
                format!("{} and {} must be equal: {why}", shown(left), shown(right)),
            ));
        }
        self.equals.push(Equal { left: left.clone(), right: right.clone(), transposed, why: why.to_owned() });
        Ok(())
    }

    pub(super) fn untie(&mut self, number: u16, input: &str, output: &str) {
        let mut head = self.slots[self.by_name[input]].clone();
        head.name = output.to_owned();
        match self.by_name.get(output) {
            Some(at) => {
                head.shard = self.slots[*at].shard;
                self.slots[*at] = head;
            }
            None => {
                head.shard = None;
                self.by_name.insert(output.to_owned(), self.slots.len());
                self.slots.push(head);
            }
        }
        self.tied = None;
        self.untied = true;
        self.report.note(format!("adapter {}: changes one side of a tied embedding: {input} and {output} are both written, and tie_word_embeddings becomes false", number + 1));
    }
}
