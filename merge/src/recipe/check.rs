//! Whether a recipe is sound: every operand lies in its tensor, fits the parameter and holds values. What comes from
//! another process is checked before anything is allocated for it.

use std::collections::HashSet;

use super::made::Made;
use super::operand::{Input, Need, Operand};
use super::{Fuse, Requantise, Step};
use crate::base::scheme::recode::Recoder;
use crate::base::scheme::stored::Start;
use crate::inventory::Source;
use crate::limits::MAX_RANK;
use crate::statistic::{Kind, Statistic, StatisticId};
use crate::tensor::float::Float;
use crate::tensor::{Dtype, DtypeExt, View, number};

/// What a check needs to know of its surroundings.
pub trait Surroundings {
    /// Whether a stored tensor has a shape within bounds, and lies in an object that is known.
    ///
    /// # Errors
    /// Why not.
    fn holds(&self, source: &Source) -> Result<(), String>;
    /// Whether the value of a statistic is there.
    fn has(&self, id: StatisticId) -> bool;
}

/// Checks a computed parameter.
///
/// # Errors
/// What is wrong, naming the tensor and both values.
pub fn fuse(fuse: &Fuse, around: &impl Surroundings) -> Result<(), String> {
    steps(&fuse.start, &fuse.steps, around)
}

/// Checks codes or scales of a computed parameter.
///
/// # Errors
/// As [`fuse`].
pub fn requantise(requantise: &Requantise, around: &impl Surroundings) -> Result<(), String> {
    fuse(&requantise.fuse, around)?;
    let recoder = requantise.recoder()?;
    if recoder.made(requantise.place()).is_none() {
        return Err(format!("tensor {} of {} is made", requantise.tensor, requantise.fuse.start.name()));
    }
    has_range(&recoder, requantise.fuse.start.name(), requantise.range, around)
}

/// The largest value is there where one scale serves all values.
fn has_range(
    recoder: &Recoder<'_>,
    name: &str,
    range: Option<StatisticId>,
    around: &impl Surroundings,
) -> Result<(), String> {
    match range {
        Some(id) if !around.has(id) => Err(format!("statistic {} is needed and not there", id.0)),
        None if recoder.has_one_scale() => Err(format!("one scale serves all of {name}, and no statistic gives it")),
        _ => Ok(()),
    }
}

/// Checks a statistic.
///
/// # Errors
/// As [`fuse`].
pub fn statistic(statistic: &Statistic, around: &impl Surroundings) -> Result<(), String> {
    steps(&statistic.start, &statistic.steps, around)?;
    let Kind::Survival { rule, range } = statistic.kind else { return Ok(()) };
    has_range(&Recoder::of(&statistic.start, rule)?, &statistic.tensor, range, around)
}

/// Checks steps on a start.
///
/// # Errors
/// As [`fuse`].
pub fn steps(start: &Start, steps: &[Step], around: &impl Surroundings) -> Result<(), String> {
    for tensor in start.tensors() {
        around.holds(tensor)?;
    }
    if let Some(id) = start.statistic().filter(|id| !around.has(*id)) {
        return Err(not_there(id));
    }
    let shape = start.matrix();
    if shape.0 == 0 || shape.1 == 0 {
        return Err(format!("{} of shape {:?} is computed with", start.name(), start.dims()));
    }
    for step in steps {
        for input in step.op.inputs() {
            check_input(&input, shape, around)?;
        }
        for matrices in step.op.matrices() {
            check_made(matrices.made, shape, around)?;
        }
        step.op.fits(shape.0, shape.1)?;
        let Some(delta) = step.op.delta().or(step.op.factor()) else { continue };
        if !delta.scale().is_finite() {
            let name = step.op.sources().next().map_or("", |source| source.name.as_str());
            return Err(format!("{name} is scaled by {}", delta.scale()));
        }
        for (source, one, other) in delta.inner() {
            if one != other || one == 0 || one > MAX_RANK {
                return Err(format!(
                    "the factors of {} have the ranks {one} and {other}, they must be equal and at most {MAX_RANK}",
                    source.name
                ));
            }
        }
    }
    Ok(())
}

fn check_input(input: &Input<'_>, (rows, cols): (u64, u64), around: &impl Surroundings) -> Result<(), String> {
    let operand = input.operand;
    within(operand, around)?;
    let (have_rows, have_cols) = (operand.view.rows, operand.view.cols);
    let wanted = match input.need {
        Need::SameRows => (rows, have_cols),
        Need::SameColumns => (have_rows, cols),
        Need::Same => (rows, cols),
        Need::Rows(list) => (list.len() as u64, cols),
        Need::PerRow => (rows, 1),
        Need::PerColumn | Need::Derived(_) => (cols, 1),
    };
    if (have_rows, have_cols) != wanted {
        return Err(format!(
            "{} is read as {have_rows} x {have_cols}, {} x {} is needed",
            operand.source.name, wanted.0, wanted.1
        ));
    }
    match input.need {
        Need::Rows(list) => {
            let mut seen = HashSet::new();
            match list.iter().find(|row| **row >= rows || !seen.insert(**row)) {
                Some(row) => Err(format!("row {row} of {rows} is set from {}, once at the most", operand.source.name)),
                None => Ok(()),
            }
        }
        Need::Derived(id) if !around.has(id) => Err(not_there(id)),
        _ => Ok(()),
    }
}

fn not_there(id: StatisticId) -> String {
    format!("statistic {} is needed and not there", id.0)
}

/// Matrices that are made: what they read, and that they are no larger than a parameter may be that they serve.
fn check_made(made: &Made, (rows, cols): (u64, u64), around: &impl Surroundings) -> Result<(), String> {
    for operand in made.operands() {
        let holds = if made.places() == Some(operand) { number::holds_places } else { has_values };
        lies_in(operand, holds, around)?;
    }
    let (size, name) = (made.size()?, made.operands().first().map_or("", |operand| operand.source.name.as_str()));
    let read: u64 = made.operands().iter().map(|operand| operand.view.elements()).sum();
    let most = rows.saturating_mul(cols).max(read).saturating_mul(4);
    if size.elements() == 0 || size.elements() > most {
        return Err(format!("{name} would give {size:?} for a parameter of {rows} x {cols}"));
    }
    Ok(())
}

fn within(operand: &Operand, around: &impl Surroundings) -> Result<(), String> {
    lies_in(operand, has_values, around)
}

fn has_values(dtype: Dtype) -> bool {
    Float::of(dtype).is_some()
}

/// An operand lies in its tensor, whose dtype `holds` what is needed.
fn lies_in(operand: &Operand, holds: fn(Dtype) -> bool, around: &impl Surroundings) -> Result<(), String> {
    let (source, view) = (&operand.source, operand.view);
    values(source, holds, around)?;
    // Elements of a source are below 2^56, so what lies within them does not overflow.
    if view.rows == 0 || view.cols == 0 || view.end().is_none_or(|end| end > source.elements()) {
        return Err(format!("{view:?} is no part of {} of shape {:?}", source.name, source.shape));
    }
    // Each stored element is read once at the most, so that reading costs no more than the tensor holds.
    if !disjoint(view) {
        return Err(format!("{view:?} reads elements of {} more than once", source.name));
    }
    let Some(gains) = &operand.row_gains else { return Ok(()) };
    values(gains, has_values, around)?;
    if gains.elements() != view.rows {
        return Err(format!("{} has {} values, {} rows are multiplied", gains.name, gains.elements(), view.rows));
    }
    Ok(())
}

/// Whether no stored element is read twice: rows do not reach into each other, or columns do not.
fn disjoint(view: View) -> bool {
    let apart = |count: u64, stride: u64, across: u64, across_stride: u64| {
        count == 1 || (across_stride > 0 || across == 1) && stride > (across - 1) * across_stride
    };
    apart(view.rows, view.row_stride, view.cols, view.col_stride) && (view.cols == 1 || view.col_stride > 0)
        || apart(view.cols, view.col_stride, view.rows, view.row_stride) && (view.rows == 1 || view.row_stride > 0)
}

/// A tensor whose values are computed with.
fn values(source: &Source, holds: fn(Dtype) -> bool, around: &impl Surroundings) -> Result<(), String> {
    // First of all: it bounds the shape, so that no product of sizes overflows.
    around.holds(source)?;
    if !holds(source.dtype) || source.elements() == 0 {
        return Err(format!(
            "{} of dtype {} and shape {:?} is computed with",
            source.name,
            source.dtype.name(),
            source.shape
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::scheme::claim::Rule;
    use crate::inventory::ObjectId;
    use crate::recipe::{Add, Delta, Dense, Op, bytes};
    use crate::tensor::Dtype;

    struct Anything;

    impl Surroundings for Anything {
        fn holds(&self, _: &Source) -> Result<(), String> {
            Ok(())
        }

        fn has(&self, _: StatisticId) -> bool {
            true
        }
    }

    /// Where no statistic is known.
    struct Nothing;

    impl Surroundings for Nothing {
        fn holds(&self, _: &Source) -> Result<(), String> {
            Ok(())
        }

        fn has(&self, _: StatisticId) -> bool {
            false
        }
    }

    fn start(scheme: &str, tensors: Vec<(Dtype, Vec<u64>)>, settings: Vec<u64>) -> Start {
        let source = |(dtype, shape)| Source { name: "w".into(), object: ObjectId(0), offset: 0, dtype, shape };
        let tensors: Vec<Source> = tensors.into_iter().map(source).collect();
        bytes::read(&bytes::write(&(scheme, tensors, settings))).unwrap()
    }

    #[test]
    fn statistics_that_a_start_or_a_scale_needs_are_there() {
        let seen = start("seen through bitsandbytes", vec![(Dtype::BF16, vec![4, 64])], vec![0, 64, 2, 0, 0, 4, 3]);
        assert_eq!(steps(&seen, &[], &Anything), Ok(()));
        assert_eq!(steps(&seen, &[], &Nothing), Err("statistic 3 is needed and not there".to_owned()));
        let fp8 = start("fp8", vec![(Dtype::F8_E4M3, vec![4, 6]), (Dtype::F32, vec![])], vec![4, 6, 4]);
        let fuse = Fuse { start: fp8, start_adapter: None, steps: Vec::new(), keep_non_finite: false };
        let one_scale = |range| Requantise { fuse: fuse.clone(), tensor: 0, rule: Rule(0), range };
        assert_eq!(requantise(&one_scale(Some(StatisticId(2))), &Anything), Ok(()));
        assert!(requantise(&one_scale(Some(StatisticId(2))), &Nothing).unwrap_err().contains("statistic 2"));
        assert!(requantise(&one_scale(None), &Anything).unwrap_err().contains("one scale serves all of w"));
    }

    fn added(operand: Operand, scale: f32) -> Result<(), String> {
        let weight = Source { name: "w".into(), object: ObjectId(0), offset: 0, dtype: Dtype::F32, shape: vec![2, 3] };
        let op = Op::Add(Add(Delta::Dense(Dense { tensor: operand, scale })));
        steps(&Start::plain(weight).unwrap(), &[Step { adapter: 0, op }], &Anything)
    }

    #[test]
    fn an_operand_is_a_part_of_its_tensor_and_is_scaled_by_a_number() {
        let operand = |view: View| Operand {
            source: Source { name: "d".into(), object: ObjectId(0), offset: 0, dtype: Dtype::F32, shape: vec![2, 3] },
            view,
            row_gains: None,
        };
        let whole = View::of(&[2, 3]);
        assert_eq!(added(operand(whole), 1.0), Ok(()));
        for view in [View { offset: 1, ..whole }, View { rows: 0, ..whole }, View { cols: 0, ..whole }] {
            assert!(added(operand(view), 1.0).is_err(), "{view:?}");
        }
        assert_eq!(added(operand(whole), f32::NAN), Err("d is scaled by NaN".to_owned()));
    }
}
