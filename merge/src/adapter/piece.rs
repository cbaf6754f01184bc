//! Where the rows of a module's weight are stored, if that is not one whole tensor.
//!
//! transformers joins and splits tensors when it loads a checkpoint, and an adapter is as old as its release. So the weight of a module
//! may be rows of a larger tensor, or be stored in several, or both.

use super::edit::RowRange;
use super::lines::Lines;
use super::rename::candidates;
use crate::base::modules::Run;
use crate::base::names::{Names, Part};
use crate::error::{Error, Kind, Result};

/// Some rows of a module's weight, and where they are stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The base's tensor.
    pub tensor: String,
    /// The rows of that tensor; `None` if they are all of it.
    pub rows: Option<RowRange>,
    /// The rows of the weight.
    pub of: Lines,
}

/// The pieces of a module's weight, with the module's path; `None` if it is not stored in pieces.
///
/// # Errors
/// `shape_mismatch` if what is stored has no such parts.
pub(super) fn pieces(module: &str, base: &Names<'_>) -> Result<Option<(Vec<Piece>, String)>> {
    for path in candidates(module) {
        let weight = format!("{path}.weight");
        let found = match base.part(&weight) {
            Some(part) => Some(of_part(module, part)?),
            None => member(module, &weight, base)?.or_else(|| joined(&weight, base)).or_else(|| split(&weight, base)),
        };
        if let Some(pieces) = found {
            return Ok(Some((pieces, path.into_owned())));
        }
    }
    Ok(None)
}

/// The rows of a parameter that is stored with others, if they are one range.
///
/// # Errors
/// As [`pieces`].
pub(super) fn of_parameter(name: &str, base: &Names<'_>) -> Result<Option<Piece>> {
    let Some(part) = base.part(name) else { return Ok(None) };
    let pieces = of_part(name, part)?;
    Ok(<[Piece; 1]>::try_from(pieces).ok().map(|[one]| one))
}

/// Where a parameter that was trained whole is stored, with the rows of it that are there, and its module's path: with others in one tensor, or
/// in several tensors one after another.
///
/// # Errors
/// As [`pieces`].
pub(super) fn of_saved(module: &str, parameter: &str, base: &Names<'_>) -> Result<Option<(Vec<Piece>, String)>> {
    for path in candidates(module) {
        let name = format!("{path}.{parameter}");
        let found = of_parameter(&name, base)?.map(|one| vec![one]).or_else(|| joined(&name, base));
        if let Some(pieces) = found {
            return Ok(Some((pieces, path.into_owned())));
        }
    }
    Ok(None)
}

/// A parameter that is stored in one tensor with others.
fn of_part(module: &str, part: Part<'_>) -> Result<Vec<Piece>> {
    let (rows, cols) = match *part.shape {
        [rows] => (rows, 1),
        _ => (part.shape.iter().rev().skip(1).product(), part.shape.last().copied().unwrap_or(1)),
    };
    let Some(runs) = part.split.runs(part.part, rows).filter(|_| !part.split.experts) else {
        let text = format!("{module} is a part of {}, whose shape is {:?}", part.tensor, part.shape);
        return Err(Error::new(Kind::ShapeMismatch, text));
    };
    let piece = |run: &Run| Piece {
        tensor: part.tensor.to_owned(),
        rows: Some(RowRange { first: run.at, count: run.count, cols }),
        of: Lines { first: run.first, step: run.step, count: run.count },
    };
    Ok(runs.iter().map(piece).collect())
}

/// A tensor that other checkpoints store by itself: a part of a weight, or of an expert of a stacked tensor.
fn member(module: &str, name: &str, base: &Names<'_>) -> Result<Option<Vec<Piece>>> {
    let Some(member) = base.member(name) else { return Ok(None) };
    // Of parameters that share the experts, nothing here tells which has this one.
    let [parameter] = member.parameters.as_slice() else { return Ok(None) };
    let stored = base.stored(parameter);
    let Some((tensor, shape)) = stored.and_then(|name| base.shape(&name).map(|shape| (name, shape))) else {
        return Ok(None);
    };
    let parts = member.parts as u64;
    let (experts, rows, cols) = match (member.expert, shape) {
        _ if member.across => return Ok(None),
        (Some(_), [experts, rows, cols]) => (*experts, *rows, *cols),
        (None, [rows, cols]) => (1, *rows, *cols),
        _ => return Ok(None),
    };
    let expert = member.expert.unwrap_or(0);
    if expert >= experts || rows % parts != 0 {
        let which = member.expert.map_or_else(|| "a part".to_owned(), |expert| format!("expert {expert}"));
        let text = format!("{module} is {which} and {tensor} has the shape {shape:?}");
        return Err(Error::new(Kind::ShapeMismatch, text));
    }
    let count = rows / parts;
    let first = expert * rows + member.part as u64 * count;
    let of = Lines { first: 0, step: 1, count };
    Ok(Some(vec![Piece { tensor, rows: Some(RowRange { first, count, cols }), of }]))
}

/// A weight that is stored in several tensors, and joined by transformers.
fn joined(name: &str, base: &Names<'_>) -> Option<Vec<Piece>> {
    let tensors = base.stacked(name)?.joined()?;
    Some(one_after_another(tensors.into_iter().map(|(name, shape)| (name.to_owned(), shape))))
}

/// A weight that older checkpoints store in one tensor, and this one as transformers splits it.
fn split(name: &str, base: &Names<'_>) -> Option<Vec<Piece>> {
    let (split, parts) = base.parts_of(name)?;
    if !split.is_plain() || parts.len() < 2 {
        return None;
    }
    let stored = parts.iter().map(|part| base.stored(part)).collect::<Option<Vec<String>>>()?;
    let shaped = stored.into_iter().map(|name| base.shape(&name).map(|shape| (name, shape)));
    Some(one_after_another(shaped.collect::<Option<Vec<_>>>()?.into_iter()))
}

/// One expert of a stacked tensor, as a module of its own.
#[derive(Debug)]
pub(super) struct OfExpert {
    /// The tensor.
    pub(super) tensor: String,
    /// The rows of the expert.
    pub(super) rows: RowRange,
    /// Whether the class has [experts, inputs, outputs].
    pub(super) transposed: bool,
    /// The module's path.
    pub(super) path: String,
}

/// A module of one expert, where no checkpoint of transformers has such modules and other trainers do: `experts.3.down_proj`, or
/// `experts.down_projs.3` (Unsloth's `gpt_oss` in 4 bits).
///
/// # Errors
/// `shape_mismatch` if there is no such expert.
pub(super) fn of_expert(module: &str, base: &Names<'_>) -> Result<Option<OfExpert>> {
    for path in candidates(module) {
        let Some((holder, expert, parameter)) = parsed(&path) else { continue };
        let Some(known) = base.class().holder(holder).filter(|known| known.parameters.iter().any(|p| p == parameter))
        else {
            continue;
        };
        let Some(tensor) = base.stored(&format!("{holder}.{parameter}")) else { continue };
        let Some([experts, rows, cols]) = base.shape(&tensor).and_then(|shape| shape.first_chunk::<3>()).copied()
        else {
            continue;
        };
        if expert >= experts {
            let text = format!("{module} is expert {expert} and {tensor} has the shape {:?}", [experts, rows, cols]);
            return Err(Error::new(Kind::ShapeMismatch, text));
        }
        let rows = RowRange { first: expert * rows, count: rows, cols };
        return Ok(Some(OfExpert { tensor, rows, transposed: known.transposed, path: path.into_owned() }));
    }
    Ok(None)
}

/// The path of the module that holds the experts, the number of one, and the parameter.
fn parsed(path: &str) -> Option<(&str, u64, &str)> {
    let (before, last) = path.rsplit_once('.')?;
    let (holder, middle) = before.rsplit_once('.')?;
    match (middle.parse(), last.parse()) {
        (Ok(expert), Err(_)) => Some((holder, expert, last)),
        (Err(_), Ok(expert)) => Some((holder, expert, middle.strip_suffix('s')?)),
        _ => None,
    }
}

fn one_after_another<'s>(tensors: impl Iterator<Item = (String, &'s [u64])>) -> Vec<Piece> {
    let mut first = 0;
    let piece = |(tensor, shape): (String, &[u64])| {
        let of = Lines { first, step: 1, count: shape.first().copied().unwrap_or(1) };
        first += of.count;
        Piece { tensor, rows: None, of }
    };
    tensors.map(piece).collect()
}
