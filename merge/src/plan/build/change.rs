//! One edit laid onto one parameter.

use super::builder::{Builder, Laid};
use super::slot::Slot;
use super::slots::Place;
use super::{op, quantised};
use crate::adapter::delta::Delta;
use crate::adapter::edit::{Applied, Change, Dimension, Edit};
use crate::adapter::module::expect_values;
use crate::base::scheme;
use crate::error::{Error, Kind, Result};
use crate::inventory::{Equal, Source};
use crate::recipe::{Along, DoraNorm, Norm, Op, Operand, statistics};
use crate::spec::Rounding;
use crate::statistic::{self, Statistic, StatisticId};
use crate::tensor::{DtypeExt, matrix};

impl Builder<'_> {
    /// Lays an edit onto its parameter.
    pub(super) fn edit(&mut self, laid: &Laid<'_>, edit: Edit) -> Result<()> {
        let replaces = matches!(edit.change, Change::Replace { .. });
        expect_computable(&self.slots.all[self.slots.at(&edit.tensor)?], &edit.change)?;
        let at = self.slots.place(&edit.tensor, edit.rows, replaces)?;
        if let (Change::Replace { source, .. }, Some(_)) = (&edit.change, edit.rows)
            && source.shape != self.slots[at].dims
        {
            return Err(mismatch(source, &self.slots[at]));
        }
        if self.spec.rounding == Rounding::PerAdapter {
            self.slots[at].save_before(laid.number);
        }
        match edit.change {
            Change::Replace { source, twin, .. } => self.replace(at, laid.number, source, twin)?,
            Change::Rows { rows, source } => self.set_rows(at, laid.number, rows, source)?,
            Change::Bias { source, scale } => {
                let slot = &mut self.slots[at];
                if source.shape != slot.dims {
                    return Err(mismatch(&source, slot));
                }
                let scale = op::scale(&edit.module, scale, laid.weight)?;
                slot.push(laid.number, op::add_scaled(source, scale));
            }
            Change::Multiply { gains, of } => self.multiply(at, laid.number, &edit.module, gains, of)?,
            Change::Delta(delta) => self.delta(at, laid, &edit.module, *delta)?,
            Change::Apply(applied) => self.operate(at, laid.number, &edit.module, applied)?,
        }
        self.slots[at].changed_by.push(laid.number);
        if edit.rows.is_some() {
            let whole = self.slots.at(&edit.tensor)?;
            self.slots.all[whole].changed_by.push(laid.number);
        }
        Ok(())
    }

    fn replace(&mut self, at: Place, number: u16, source: Source, twin: Option<Source>) -> Result<()> {
        let slot = &self.slots[at];
        if source.dtype != slot.dtype {
            expect_values(&source)?;
        }
        let dropped = check_replacement(slot, &source, number, self.ties.is_side(&slot.name))?;
        if dropped > 0 {
            let (name, rows, kept) = (&slot.name, slot.dims[0], slot.dims[0] - dropped);
            self.report.warn(format!("adapter {}: {name} has {kept} rows and the base {rows}: the last {dropped} rows of the base are dropped as padding", number + 1));
        }
        if let Some(twin) = twin {
            if twin.shape != source.shape || twin.dtype != source.dtype {
                let ((a, x), (b, y)) = ((&source.name, &source.shape), (&twin.name, &twin.shape));
                let text = format!("{a} ({x:?}) and {b} ({y:?}) must be the same tensor");
                return Err(Error::new(Kind::Conflict, text));
            }
            let why = "the adapter saved one module under two names";
            self.equals.push(Equal::new(&source, &twin, false, why));
        }
        // A portion keeps its size, and so does the parameter.
        let grown = self.slots[at].dims != source.shape;
        let before = self.slots.parameter(at).dims.clone();
        let after = if grown { source.shape.clone() } else { before.clone() };
        let slot = &mut self.slots[at];
        if let Some(earlier) = slot.changed_by.iter().rev().find(|a| **a != number) {
            self.report.conflict(format!(
                "{}: adapter {} replaces what adapter {} left; the last one wins",
                slot.name,
                number + 1,
                earlier + 1
            ));
        }
        self.report.replaced.push((slot.name.clone(), number, before, after));
        slot.dims = source.shape.clone();
        slot.stored = scheme::alone(&source);
        slot.start_adapter = Some(number);
        slot.steps.clear();
        slot.portions.clear();
        self.token_rows.forget(&slot.name);
        Ok(())
    }

    fn set_rows(&mut self, at: Place, number: u16, rows: Vec<u64>, source: Source) -> Result<()> {
        let slot = &mut self.slots[at];
        let (height, width) = matrix(&slot.dims);
        expect_values(&source)?;
        if source.shape.get(1) != Some(&width) {
            return Err(mismatch(&source, slot));
        }
        if let Some(row) = rows.iter().find(|r| **r >= height) {
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!("adapter_config.json names token {row}, {} has {height} rows", slot.name),
            ));
        }
        self.token_rows.take(&slot.name, &rows, number, &source)?;
        slot.push(number, op::set_rows(rows, source));
        Ok(())
    }

    fn multiply(&mut self, at: Place, number: u16, module: &str, gains: Source, of: Dimension) -> Result<()> {
        expect_values(&gains)?;
        let slot = &mut self.slots[at];
        let by_columns = self.conv1d.is(module) && slot.dims.len() == 2;
        let along = if (of == Dimension::Outputs) == by_columns { Along::Columns } else { Along::Rows };
        let (rows, cols) = matrix(&slot.dims);
        let (wanted, what) = if along == Along::Rows { (rows, "rows") } else { (cols, "columns") };
        if gains.elements() != wanted {
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!(
                    "{} of shape {:?} multiplies the {wanted} {what} of {} of shape {:?}",
                    gains.name, gains.shape, slot.name, slot.dims
                ),
            )
            .hint(
                "the adapter was trained on a model of another size; on a convolution, only outputs are multiplied",
            ));
        }
        slot.push(number, op::multiply(gains, along));
        Ok(())
    }

    /// Adds operations that act on the inputs of a layer, which must be the columns of its weight.
    fn operate(&mut self, at: Place, number: u16, module: &str, applied: Applied) -> Result<()> {
        let slot = &mut self.slots[at];
        let first = sources_of(&applied.ops).next().map_or(module, |source| source.name.as_str());
        if self.conv1d.is(module) && slot.dims.len() == 2 {
            let text = format!(
                "{first} targets {} of shape {:?}: a layer that is stored as [in, out] is not supported for this kind",
                slot.name, slot.dims
            );
            return Err(Error::new(Kind::Unsupported, text));
        }
        let (rows, cols) = matrix(&slot.dims);
        if let Some(outputs) = applied.outputs.filter(|outputs| *outputs != rows) {
            return Err(misfit(slot, &format!("{first} has {outputs} outputs, the weight {rows}")));
        }
        for op in applied.ops {
            op.fits(rows, cols).map_err(|text| misfit(slot, &text))?;
            slot.push(number, op);
        }
        Ok(())
    }

    fn delta(&mut self, at: Place, laid: &Laid<'_>, module: &str, delta: Delta) -> Result<()> {
        let slot = &mut self.slots[at];
        let by_columns = delta.embedding
            || match delta.linear() {
                _ if delta.is_as_stored() => false,
                Some(linear) => laid.orientation.transposed(&self.conv1d, (module, linear, &slot.dims))?,
                None => self.conv1d.is(module),
            };
        if by_columns && !delta.embedding && slot.coded.is_some() {
            return Err(quantised::not_decoded(
                slot,
                "its layer is stored as [in, out], and its codes may lie the other way round",
            ));
        }
        delta.fits(&slot.name, &slot.dims, by_columns)?;
        let scale = op::scale(module, delta.scale, laid.weight)?;
        let (magnitude, of_weight) = (delta.magnitude.clone(), delta.of_weight);
        let delta = op::delta(delta, by_columns, scale);
        // What a kind's factors give is held against the weight as a worker holds it.
        delta.fits(matrix(&slot.dims).0, matrix(&slot.dims).1).map_err(|text| misfit(slot, &text))?;
        let Some(magnitude) = magnitude else {
            slot.push(laid.number, if of_weight { op::modulate(delta) } else { op::add(delta) });
            return Ok(());
        };
        check_magnitude(slot, &magnitude, by_columns)?;
        let of = self.spec.dora_norm;
        let norm = if by_columns {
            // The norm of a column is taken over all rows, before any row is written.
            let mut prefix = slot.clone();
            if of == DoraNorm::Original {
                prefix.steps.clear();
            }
            let start = prefix.start()?;
            let needs = start.statistic().into_iter().chain(statistics(&prefix.steps)).collect();
            prefix.push(laid.number, op::add(delta.clone()));
            let id = StatisticId(self.statistics.len() as u32);
            self.statistics.push(Statistic {
                start,
                tensor: prefix.name,
                steps: prefix.steps,
                needs,
                kind: statistic::Kind::ColumnSquares,
            });
            Norm::Columns(id)
        } else {
            Norm::Rows
        };
        slot.push(laid.number, op::dora(delta, magnitude, norm, of));
        Ok(())
    }
}

/// The tensors that operations read.
fn sources_of(ops: &[Op]) -> impl Iterator<Item = &Source> {
    ops.iter().flat_map(Op::sources)
}

/// Refuses an edit of a parameter that has no values, or no elements.
fn expect_computable(slot: &Slot, change: &Change) -> Result<()> {
    let whole =
        matches!(change, Change::Replace { source, .. } if source.dtype == slot.dtype && !slot.dtype.floating());
    quantised::expect_values(slot, matches!(change, Change::Replace { .. }))?;
    if !whole && !slot.stored.has_values() {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "the adapter changes {}, whose dtype {} holds codes or is not supported, expected F32, F16 or BF16",
                slot.name,
                slot.stored.tensors[0].dtype.name()
            ),
        )
        .hint("merge into a base that holds the weight as floats; codes can be made of the result again"));
    }
    if slot.dims.contains(&0) {
        return Err(Error::new(
            Kind::EmptyTensor,
            format!("the adapter changes {}, which is empty in the base (shape {:?})", slot.name, slot.dims),
        ));
    }
    Ok(())
}

/// Matrices that do not fit their weight.
fn misfit(slot: &Slot, text: &str) -> Error {
    Error::new(Kind::ShapeMismatch, format!("{}: {text}", slot.name))
        .hint("the adapter was trained on a model of another size")
}

/// A source that does not have the shape of its target.
fn mismatch(source: &Source, slot: &Slot) -> Error {
    Error::new(
        Kind::ShapeMismatch,
        format!("{} has shape {:?}, {} has shape {:?}", source.name, source.shape, slot.name, slot.dims),
    )
}

/// How many rows of a padded base a replacement drops, once its shape fits. An embedding may have more rows than before.
/// It may have fewer than the base, whose vocabulary is padded, and not fewer than an earlier adapter.
fn check_replacement(slot: &Slot, source: &Source, number: u16, is_side: bool) -> Result<u64> {
    let embedding = is_side || slot.name.contains("embed") || slot.name.ends_with("lm_head.weight");
    let fits = source.shape.len() == slot.dims.len() && source.shape.get(1..) == slot.dims.get(1..);
    let (now, before) = (source.shape.first().copied().unwrap_or(1), slot.dims.first().copied().unwrap_or(1));
    let cuts_padding = is_side && slot.changed_by.iter().all(|adapter| *adapter == number);
    if source.shape == slot.dims || (embedding && fits && (now >= before || cuts_padding)) {
        return Ok(before.saturating_sub(now));
    }
    let who = match slot.start_adapter {
        Some(a) => format!("adapter {} made it {:?}", a + 1, slot.dims),
        None => format!("the base has {:?}", slot.dims),
    };
    let error = Error::new(
        Kind::ShapeMismatch,
        format!("{} has shape {:?} and replaces {}, but {who}", source.name, source.shape, slot.name),
    );
    Err(if !(embedding && fits) {
        error
    } else if !slot.changed_by.is_empty() {
        error.hint("a later adapter cannot shrink the vocabulary: merge the adapters whose tokenizer has more tokens last, or use adapters of one vocabulary")
    } else {
        error.hint("fewer rows than the base are taken for the input and output embedding of a model whose embeddings are known")
    })
}

/// DoRA has one magnitude for each output.
fn check_magnitude(slot: &Slot, operand: &Operand, by_columns: bool) -> Result<()> {
    let (rows, cols) = matrix(&slot.dims);
    let outputs = if by_columns { cols } else { rows };
    let magnitude = &operand.source;
    expect_values(magnitude)?;
    if operand.view.elements() == outputs {
        return Ok(());
    }
    Err(Error::new(
        Kind::ShapeMismatch,
        format!(
            "{} is {} {:?}, {} has {outputs} outputs",
            magnitude.name,
            magnitude.dtype.name(),
            magnitude.shape,
            slot.name
        ),
    ))
}
