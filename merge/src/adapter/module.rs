//! A module that an adapter changes: its tensors, and where it is in the base.

use super::delta::Delta;
use super::edit::{Change, Edit, RowRange};
use super::piece::{self, OfExpert, Piece};
use super::rename::candidates;
use crate::base::names::Names;
use crate::base::scheme;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::tensor::{DtypeExt, matrix, number};

/// The tensors of one module by their parts, whose names the kind gives, in the order of these.
#[derive(Debug, Default)]
pub struct Parts<'a>(Vec<(&'static str, &'a Source)>);

impl<'a> Parts<'a> {
    /// Adds a tensor; the one that had its part before, if there was one.
    pub fn insert(&mut self, part: &'static str, tensor: &'a Source) -> Option<&'a Source> {
        match self.place(part) {
            Ok(at) => Some(std::mem::replace(&mut self.0[at].1, tensor)),
            Err(at) => {
                self.0.insert(at, (part, tensor));
                None
            }
        }
    }

    /// The tensor of a part.
    pub fn get(&self, part: &str) -> Option<&'a Source> {
        self.place(part).ok().map(|at| self.0[at].1)
    }

    /// All tensors, by the names of their parts.
    pub fn all(&self) -> impl Iterator<Item = &'a Source> {
        self.0.iter().map(|(_, tensor)| *tensor)
    }

    fn place(&self, part: &str) -> std::result::Result<usize, usize> {
        self.0.binary_search_by(|(name, _)| (*name).cmp(part))
    }
}

/// A module of an adapter, found in the base.
#[derive(Debug)]
pub struct Module<'a> {
    /// The path in the adapter.
    pub name: &'a str,
    /// The base's tensor.
    pub tensor: String,
    /// The rows of that tensor that are the module's weight; `None` if all of it is.
    pub rows: Option<RowRange>,
    /// For one expert of a stacked tensor: whether a square weight is stored as [in, out]. Of others, the shape tells.
    pub expert: Option<bool>,
    /// Where the rows of its weight are stored, if that is not one range of rows in their order.
    pub pieces: Vec<Piece>,
    /// The path in the base.
    pub base: String,
    /// The adapter's tensors.
    pub parts: &'a Parts<'a>,
    /// Those that all modules share.
    pub shared: &'a Parts<'a>,
}

impl<'a> Module<'a> {
    /// Looks a module up in the base.
    ///
    /// # Errors
    /// `shape_mismatch` if the base has its weight in a larger tensor that has no such part.
    pub fn find(
        name: &'a str,
        parts: &'a Parts<'a>,
        shared: &'a Parts<'a>,
        base: &Names<'_>,
    ) -> Result<Option<Module<'a>>> {
        let module = |tensor: String, rows: Option<RowRange>, base: String| Module {
            name,
            tensor,
            rows,
            expert: None,
            pieces: Vec::new(),
            base,
            parts,
            shared,
        };
        if let Some((tensor, base)) =
            ["weight", "in_proj_weight"].into_iter().find_map(|p| locate(name, p, false, base))
        {
            return Ok(Some(module(tensor, None, base)));
        }
        if let Some((pieces, base)) = piece::pieces(name, base)? {
            return Ok(Some(match <[Piece; 1]>::try_from(pieces) {
                Ok([Piece { tensor, rows, .. }]) => module(tensor, rows, base),
                Err(pieces) => {
                    let tensor = pieces.first().map_or(String::new(), |piece| piece.tensor.clone());
                    Module { pieces, ..module(tensor, None, base) }
                }
            }));
        }
        let expert = piece::of_expert(name, base)?;
        Ok(expert.map(|OfExpert { tensor, rows, transposed, path }| Module {
            expert: Some(transposed),
            ..module(tensor, Some(rows), path)
        }))
    }

    /// The edits that a delta of its weight is: one for each piece.
    ///
    /// # Errors
    /// `shape_mismatch` if the pieces are not the rows that the delta has; `unsupported` if it cannot be cut into rows.
    pub fn delta(&self, delta: Delta) -> Result<Vec<Edit>> {
        if self.pieces.is_empty() {
            return Ok(vec![self.edit(Change::delta(delta))]);
        }
        let (have, stored) = (delta.rows(), self.pieces.iter().map(|piece| piece.of.count).sum::<u64>());
        if have != stored {
            let text = format!(
                "the delta of {} has {have} rows, {} and the others of it have {stored}",
                self.name, self.tensor
            );
            return Err(
                Error::new(Kind::ShapeMismatch, text).hint("the adapter was trained on a model of another size")
            );
        }
        let edit = |piece: &Piece| {
            let Some(delta) = delta.lines(piece.of) else {
                let text = format!(
                    "{} is stored as rows of several tensors, and its delta cannot be cut into rows",
                    self.name
                );
                return Err(Error::new(Kind::Unsupported, text));
            };
            let (tensor, module) = (piece.tensor.clone(), self.base.clone());
            Ok(Edit { tensor, rows: piece.rows, module, change: Change::delta(delta) })
        };
        self.pieces.iter().map(edit).collect()
    }

    /// Where its first row is stored.
    pub fn place(&self) -> (&str, Option<RowRange>) {
        match self.pieces.first() {
            Some(piece) => (&piece.tensor, piece.rows),
            None => (&self.tensor, self.rows),
        }
    }

    /// The edit that a change of its weight is.
    pub fn edit(&self, change: Change) -> Edit {
        Edit { tensor: self.tensor.clone(), rows: self.rows, module: self.base.clone(), change }
    }

    /// Where its bias is stored, with the rows of that tensor that are the bias, if these are not all of it. `None` if the base has none.
    ///
    /// # Errors
    /// `shape_mismatch` if the base has it in a larger tensor that has no such part; `unsupported` if it cannot be told which rows of a
    /// larger tensor it is.
    pub fn bias(&self, base: &Names<'_>) -> Result<Option<(String, Option<RowRange>)>> {
        if let Some(Piece { tensor, rows, .. }) = piece::of_parameter(&format!("{}.bias", self.base), base)? {
            return Ok(Some((tensor, rows)));
        }
        let beside = self.tensor.strip_suffix("weight").map(|stem| format!("{stem}bias"));
        match beside.filter(|bias| base.has(bias)) {
            Some(bias) if self.rows.is_some() || !self.pieces.is_empty() => {
                let (name, weight) = (self.name, &self.tensor);
                let text = format!(
                    "the weight of {name} is stored as rows of {weight}, and which rows of {bias} are its bias is not known"
                );
                Err(Error::new(Kind::Unsupported, text)
                    .hint("load the base with transformers, and save its state dict as it is"))
            }
            beside => Ok(beside.map(|bias| (bias, None))),
        }
    }

    /// The rows and columns of its weight, as it is stored.
    ///
    /// # Errors
    /// `internal` if the base does not have it: a module is found by its tensor.
    pub fn matrix(&self, base: &Names<'_>) -> Result<(u64, u64)> {
        let size = match self.rows {
            Some(rows) => Some((rows.count, rows.cols)),
            None => base.shape(&self.tensor).map(matrix),
        };
        size.ok_or_else(|| Error::new(Kind::Internal, format!("{} is not in the base", self.tensor)))
    }

    /// The tensors of the parts named, all of which a module must have.
    ///
    /// # Errors
    /// `incomplete_pair`, naming what is there and what is missing.
    pub fn all_of<const N: usize>(&self, parts: [&'static str; N]) -> Result<[&'a Source; N]> {
        let found = parts.map(|part| self.parts.get(part));
        let missing: Vec<&str> =
            parts.iter().zip(&found).filter(|(_, found)| found.is_none()).map(|(part, _)| *part).collect();
        let all: Vec<&'a Source> = found.into_iter().flatten().collect();
        all.try_into().map_err(|have: Vec<&Source>| {
            let have: Vec<&str> = have.iter().map(|t| t.name.as_str()).collect();
            let text = format!("{} has {} and no {}", self.name, have.join(", "), missing.join(", "));
            Error::new(Kind::IncompletePair, text)
        })
    }

    /// Refuses tensors that hold no values to compute with.
    ///
    /// # Errors
    /// `unsupported`, naming the first one and its type.
    pub fn expect_values(&self) -> Result<()> {
        self.parts.all().try_for_each(expect_values)
    }
}

/// Refuses a tensor of an adapter that holds no values to compute with.
///
/// # Errors
/// `unsupported`, naming tensor and type.
pub fn expect_values(tensor: &Source) -> Result<()> {
    if scheme::has_values(tensor) {
        return Ok(());
    }
    let (name, dtype) = (&tensor.name, tensor.dtype.name());
    Err(Error::new(Kind::Unsupported, format!("adapter tensor {name} is {dtype}, expected F32, F16 or BF16")))
}

/// Refuses a tensor of an adapter that holds no places.
///
/// # Errors
/// `unsupported`, naming tensor and type.
pub fn expect_places(tensor: &Source) -> Result<()> {
    if number::holds_places(tensor.dtype) {
        return Ok(());
    }
    let (name, dtype) = (&tensor.name, tensor.dtype.name());
    Err(Error::new(Kind::Unsupported, format!("adapter tensor {name} is {dtype}, expected integers")))
}

/// The base tensor `module.parameter`, under whatever name the base knows the module by; with its module path.
pub fn locate(module: &str, parameter: &str, saved: bool, base: &Names<'_>) -> Option<(String, String)> {
    let forms: Vec<&str> = match parameter.split_once('.') {
        // `modules_to_save.<adapter>.weight` or `modules_to_save.<child>.weight`: only the base's names can tell.
        Some((_, rest)) if saved => vec![parameter, rest],
        _ => vec![parameter],
    };
    let named = |find: &dyn Fn(&str) -> Option<String>| {
        candidates(module).find_map(|module| {
            forms.iter().find_map(|parameter| {
                let name = if module.is_empty() { (*parameter).to_owned() } else { format!("{module}.{parameter}") };
                let found = find(&name)?;
                let ends = found.strip_suffix(parameter).map(|module| module.trim_end_matches('.'));
                let module = ends.or_else(|| Some(found.rsplit_once('.')?.0)).unwrap_or_default().to_owned();
                Some((found, module))
            })
        })
    };
    named(&|name| base.has(name).then(|| name.to_owned())).or_else(|| named(&|name| base.renamed(name)))
}
