//! One edit laid onto one tensor.

use super::{Builder, Equal, Slot};
use crate::adapter::resolve::Pair;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::{Add, Delta, Dora, DoraNorm, LowRank, Norm, Op, Operand, SetRows, Step, statistics};
use crate::statistic::{self, Statistic, StatisticId};
use crate::tensor::{DtypeExt, matrix};

impl Builder<'_> {
    pub(super) fn replace(&mut self, at: usize, number: u16, source: Source, twin: Option<Source>) -> Result<()> {
        let slot = &self.slots[at];
        if !source.dtype.fusable() && source.dtype != slot.dtype {
            return Err(Error::new(
                Kind::Unsupported,
                format!("adapter tensor {} is {}, expected F32, F16 or BF16", source.name, source.dtype.name()),
            ));
        }
        let embedding = self.sides.is_some_and(|(i, o)| slot.name == i || slot.name == o)
            || slot.name.contains("embed")
            || slot.name.ends_with("lm_head.weight");
        let fits = source.shape.len() == slot.shape.len() && source.shape.get(1..) == slot.shape.get(1..);
        let grows = embedding && fits && source.shape.first() >= slot.shape.first();
        if source.shape != slot.shape && !grows {
            let who = match slot.start_adapter {
                Some(a) => format!("adapter {} made it {:?}", a + 1, slot.shape),
                None => format!("the base has {:?}", slot.shape),
            };
            let error = Error::new(
                Kind::ShapeMismatch,
                format!("{} has shape {:?} and replaces {}, but {who}", source.name, source.shape, slot.name),
            );
            return Err(if embedding && fits {
                error.hint("a later adapter cannot shrink the vocabulary: merge the adapters whose tokenizer has more tokens last, or use adapters of one vocabulary")
            } else {
                error
            });
        }
        if let Some(twin) = twin {
            if twin.shape != source.shape || twin.dtype != source.dtype {
                return Err(Error::new(
                    Kind::Conflict,
                    format!(
                        "{} ({:?}) and {} ({:?}) must be the same tensor",
                        source.name, source.shape, twin.name, twin.shape
                    ),
                ));
            }
            let why = "the adapter saved one module under two names".to_owned();
            self.equals.push(Equal { left: source.clone(), right: twin, transposed: false, why });
        }
        let slot = &mut self.slots[at];
        if let Some(earlier) = slot.changed_by.iter().rev().find(|a| **a != number) {
            self.report.conflict(format!(
                "{}: adapter {} replaces what adapter {} left; the last one wins",
                slot.name,
                number + 1,
                earlier + 1
            ));
        }
        self.report.replaced.push((slot.name.clone(), number, slot.shape.clone(), source.shape.clone()));
        slot.shape = source.shape.clone();
        slot.start = source;
        slot.start_adapter = Some(number);
        slot.steps.clear();
        self.token_rows.remove(&self.slots[at].name);
        Ok(())
    }

    pub(super) fn set_rows(&mut self, at: usize, number: u16, rows: Vec<u64>, source: Source) -> Result<()> {
        let slot = &mut self.slots[at];
        let (height, width) = matrix(&slot.shape);
        if !source.dtype.fusable() {
            return Err(Error::new(
                Kind::Unsupported,
                format!("adapter tensor {} is {}, expected F32, F16 or BF16", source.name, source.dtype.name()),
            ));
        }
        if source.shape.get(1) != Some(&width) {
            return Err(mismatch(&source, slot));
        }
        if let Some(row) = rows.iter().find(|r| **r >= height) {
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!("adapter_config.json names token {row}, {} has {height} rows", slot.name),
            ));
        }
        let taken = self.token_rows.entry(slot.name.clone()).or_default();
        for row in &rows {
            if let Some(other) = taken.insert(*row, number) {
                return Err(Error::new(
                    Kind::Conflict,
                    format!("adapters {} and {} both replace row {row} of {}", other + 1, number + 1, slot.name),
                ));
            }
        }
        slot.steps.push(Step { adapter: number, op: Op::SetRows(SetRows { rows, source: Operand::matrix(source) }) });
        Ok(())
    }

    pub(super) fn pair(&mut self, at: usize, number: u16, weight: f64, module: &str, pair: Pair) -> Result<()> {
        let slot = &self.slots[at];
        let columns_out = pair.embedding
            || match pair.linear() {
                Some(delta) => self.orientation.transposed(&self.conv1d, (module, delta, &slot.shape))?,
                None => self.conv1d.is(module),
            };
        check_pair(&pair, slot, columns_out)?;
        // By columns: W is [in, out], so delta = (B @ A)^T = A^T @ B^T.
        let (left, right) = if columns_out { (pair.a, pair.b) } else { (pair.b, pair.a) };
        let factor = |source| if columns_out { Operand::transposed(source) } else { Operand::matrix(source) };
        let scale = scale_of(module, pair.scale, weight)?;
        let delta = Delta::LowRank(LowRank { left: factor(left), right: factor(right), scale });
        let Some(magnitude) = pair.magnitude else {
            self.slots[at].steps.push(Step { adapter: number, op: Op::Add(Add(delta)) });
            return Ok(());
        };
        let (rows, cols) = matrix(&slot.shape);
        let outputs = if columns_out { cols } else { rows };
        if magnitude.elements() != outputs || !magnitude.dtype.fusable() {
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!(
                    "{} is {} {:?}, {} has {outputs} outputs",
                    magnitude.name,
                    magnitude.dtype.name(),
                    magnitude.shape,
                    slot.name
                ),
            ));
        }
        let of = self.spec.dora_norm;
        let norm = if columns_out {
            let mut steps = if of == DoraNorm::Original { Vec::new() } else { slot.steps.clone() };
            let needs = statistics(&steps).collect();
            steps.push(Step { adapter: number, op: Op::Add(Add(delta.clone())) });
            let id = StatisticId(self.statistics.len() as u32);
            let (tensor, start) = (slot.name.clone(), slot.start.clone());
            let kind = statistic::Kind::ColumnSquares;
            self.statistics.push(Statistic { tensor, start, steps, needs, kind });
            Norm::Columns(id)
        } else {
            Norm::Rows
        };
        self.slots[at].steps.push(Step {
            adapter: number,
            op: Op::Dora(Dora { delta, magnitude: Operand::vector(magnitude), norm, of }),
        });
        Ok(())
    }
}

/// The scale of a delta: the adapter's own times its weight, in fp32.
///
/// # Errors
/// If fp32 cannot hold it.
pub(super) fn scale_of(module: &str, scale: f64, weight: f64) -> Result<f32> {
    let product = scale * weight;
    let rounded = product as f32;
    if rounded.is_finite() {
        return Ok(rounded);
    }
    Err(Error::new(
        Kind::BadConfig,
        format!("the delta of {module} would be scaled by {product:e} (alpha and rank give {scale:e}, the weight is {weight:e}), which is not finite in fp32"),
    )
    .hint("check lora_alpha and alpha_pattern in adapter_config.json, and the weight"))
}

/// A source that does not have the shape of its target.
pub(super) fn mismatch(source: &Source, slot: &Slot) -> Error {
    Error::new(
        Kind::ShapeMismatch,
        format!("{} has shape {:?}, {} has shape {:?}", source.name, source.shape, slot.name, slot.shape),
    )
}

/// Holds a pair's shapes against the weight's.
fn check_pair(pair: &Pair, slot: &Slot, columns_out: bool) -> Result<()> {
    let (a, b, w) = (&pair.a, &pair.b, &slot.shape);
    let wrong = || {
        let how = if columns_out { " (stored as [in, out])" } else { "" };
        Error::new(
            Kind::ShapeMismatch,
            format!(
                "{} of shape {:?} and {} of shape {:?} do not fit {} of shape {w:?}{how}",
                a.name, a.shape, b.name, b.shape, slot.name
            ),
        )
        .hint("the adapter was trained on a model of another size")
    };
    let fits = match (columns_out, w.len()) {
        (true, 2) => a.shape.len() == 2 && b.shape.len() == 2 && w[0] == a.shape[1] && w[1] == b.shape[0],
        (false, 2) => a.shape.len() == 2 && b.shape.len() == 2 && w[0] == b.shape[0] && w[1] == a.shape[1],
        (false, 3..) if a.shape.len() == 2 => {
            return Err(Error::new(
                Kind::Unsupported,
                format!(
                    "{} of shape {:?} targets {} of shape {w:?}: LoRA on stacked experts is not supported yet",
                    a.name, a.shape, slot.name
                ),
            ));
        }
        (false, 3..) => {
            if a.shape.len() == w.len() && a.shape[1] != w[1] && a.shape[1].is_multiple_of(w[1]) {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!(
                        "{} of shape {:?} targets {} of shape {w:?}: a convolution with groups is not supported",
                        a.name, a.shape, slot.name
                    ),
                ));
            }
            a.shape.len() == w.len()
                && a.shape[1..] == w[1..]
                && b.shape[0] == w[0]
                && b.shape[2..].iter().all(|d| *d == 1)
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(wrong()) }
}
