//! A delta as an adapter describes it, before it is laid onto a weight.

use super::lines::Lines;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::recipe::{self, Operand};
use crate::tensor::matrix;

/// The factors of a delta, and how they make it. The delta has the outputs of its layer as rows.
#[derive(Debug, Clone, PartialEq)]
pub enum Factors {
    /// `b @ a`, or `b @ diag(inner) @ a`.
    LowRank {
        /// [rank, in, *kernel].
        a: Source,
        /// [out, rank, 1...].
        b: Source,
        /// One value for each rank.
        inner: Option<Source>,
    },
    /// Two products, multiplied element by element. Each is [out, rank] @ [rank, in * kernel].
    Hadamard {
        /// The factors of the first product.
        first: (Source, Source),
        /// The factors of the second.
        second: (Source, Source),
    },
    /// `b @ a`, both with gains of their rows, which are parts of larger tensors.
    Gained {
        /// [rank, in].
        a: Operand,
        /// [out, rank].
        b: Operand,
    },
    /// A delta of matrices that are made of the adapter's tensors, as a recipe has it, but for its scale.
    Made {
        /// It is [out, in * kernel].
        delta: Box<recipe::Delta>,
        /// Its transpose, for a weight that is stored as [in, out]; without one it is not merged there.
        turned: Option<Box<recipe::Delta>>,
    },
    /// `left @ right`, which are parts of larger tensors. The delta has the shape of the weight as it is stored.
    Views {
        /// [rows, rank].
        left: Operand,
        /// [rank, columns].
        right: Operand,
    },
}

impl Factors {
    /// A delta of matrices that are made; only of a weight that is stored as [out, in].
    pub fn made(delta: recipe::Delta) -> Factors {
        Factors::Made { delta: Box::new(delta), turned: None }
    }

    /// A delta of matrices that are made, and its transpose.
    pub fn made_both(delta: recipe::Delta, turned: recipe::Delta) -> Factors {
        Factors::Made { delta: Box::new(delta), turned: Some(Box::new(turned)) }
    }

    /// The tensors.
    pub fn sources(&self) -> Vec<&Source> {
        match self {
            Factors::LowRank { a, b, inner } => [a, b].into_iter().chain(inner).collect(),
            Factors::Hadamard { first, second } => vec![&first.0, &first.1, &second.0, &second.1],
            Factors::Views { left, right } => vec![&left.source, &right.source],
            Factors::Gained { a, b } => vec![&a.source, &b.source],
            Factors::Made { delta, .. } => {
                let operands = delta.matrices().into_iter().flat_map(|matrices| matrices.made.operands());
                operands.map(|operand| &operand.source).collect()
            }
        }
    }

    /// Whether the inputs and the kernel of a convolution are one dimension.
    fn is_flat(&self) -> bool {
        matches!(self, Factors::Hadamard { .. } | Factors::Made { .. })
    }

    /// Whether they can be laid onto a weight that is stored as [in, out].
    fn can_be_turned(&self) -> bool {
        match self {
            Factors::LowRank { .. } | Factors::Hadamard { .. } | Factors::Views { .. } => true,
            Factors::Made { turned, .. } => turned.is_some(),
            Factors::Gained { .. } => false,
        }
    }
}

/// A delta of one weight.
#[derive(Debug, Clone)]
pub struct Delta {
    /// How it is made.
    pub factors: Factors,
    /// The shape of the weight, outputs first: [out, in, *kernel].
    pub dims: Vec<u64>,
    /// Whether the weight is an embedding's, which is stored as [in, out].
    pub embedding: bool,
    /// The rank.
    pub rank: u64,
    /// What multiplies it, without the adapter's weight.
    pub scale: f64,
    /// DoRA's magnitude: one value for each output.
    pub magnitude: Option<Operand>,
    /// Whether it is multiplied by the weight before it is added.
    pub of_weight: bool,
}

impl Delta {
    /// A delta of a layer that is neither multiplied by a weight nor rescaled.
    pub fn plain(factors: Factors, dims: impl Into<Vec<u64>>, rank: u64, scale: f64) -> Delta {
        Delta { factors, dims: dims.into(), embedding: false, rank, scale, magnitude: None, of_weight: false }
    }

    /// Whether its shape is that of the weight as it is stored, whichever way round that is.
    pub fn is_as_stored(&self) -> bool {
        matches!(self.factors, Factors::Views { .. })
    }

    /// The shape `[out, in]`, if it is one of a linear layer.
    pub fn linear(&self) -> Option<[u64; 2]> {
        match *self.dims {
            [out, inn] if !self.embedding && !self.is_as_stored() => Some([out, inn]),
            _ => None,
        }
    }

    /// Some rows of it, as the delta of a weight that has only these; `None` if it is not cut.
    pub fn lines(&self, lines: Lines) -> Option<Delta> {
        let (left, right) = match &self.factors {
            Factors::LowRank { a, b, inner: None } if self.embedding => {
                (Operand::transposed(a.clone()), Operand::transposed(b.clone()))
            }
            Factors::LowRank { a, b, inner: None } => (Operand::matrix(b.clone()), Operand::matrix(a.clone())),
            _ => return None,
        };
        // The norms of an embedding's columns are taken over all its rows.
        if self.embedding && self.magnitude.is_some() {
            return None;
        }
        let of = |operand: &Operand| Operand { view: lines.of(operand.view), ..operand.clone() };
        let dims = match (self.embedding, self.dims.as_slice()) {
            (true, [width, _]) => vec![lines.count, *width],
            (_, dims) => [lines.count].into_iter().chain(dims.iter().skip(1).copied()).collect(),
        };
        let magnitude = self.magnitude.as_ref().map(of);
        Some(Delta {
            factors: Factors::Views { left: of(&left), right },
            dims,
            embedding: false,
            magnitude,
            ..self.clone()
        })
    }

    /// How many rows its weight has as it is stored.
    pub fn rows(&self) -> u64 {
        self.dims[usize::from(self.embedding)]
    }

    /// The pairs of tensors that must be equal for two deltas to be the same, and whether one is the other's transpose.
    pub fn same_as<'a>(&'a self, other: &'a Delta) -> Vec<(&'a Source, &'a Source, bool)> {
        match (&self.factors, &other.factors) {
            (Factors::LowRank { a, b, inner: None }, Factors::LowRank { a: x, b: y, inner: None })
                if self.embedding && !other.embedding =>
            {
                vec![(a, y, true), (b, x, true)]
            }
            (one, other) => {
                one.sources().into_iter().zip(other.sources()).map(|(one, other)| (one, other, false)).collect()
            }
        }
    }

    /// Holds its shape against the weight's. `by_columns` tells that the weight is stored as [in, out].
    ///
    /// # Errors
    /// `shape_mismatch`, naming the factors and the weight; `unsupported` for a layout that is not merged yet.
    pub fn fits(&self, weight: &str, dims: &[u64], by_columns: bool) -> Result<()> {
        let unsupported = |what: &str| {
            let first = self.factors.sources()[0];
            let (name, shape) = (&first.name, &first.shape);
            let text = format!("{name} of shape {shape:?} targets {weight} of shape {dims:?}: {what}");
            Err(Error::new(Kind::Unsupported, text))
        };
        let fits = match (by_columns, dims, self.dims.as_slice()) {
            (true, ..) if !self.factors.can_be_turned() => {
                return unsupported("a layer that is stored as [in, out] is not supported for this kind");
            }
            (true, [w, h], [out, inn]) => (w, h) == (inn, out),
            (true, ..) => false,
            (false, dims, [out, inn]) if self.factors.is_flat() => matrix(dims) == (*out, *inn),
            (false, [_, _, _, ..], [_, _]) => {
                return unsupported(
                    "LoRA on stacked experts is merged only where adapter_config.json names them in target_parameters",
                );
            }
            (false, [_, w, _, ..], [_, inn, ..])
                if dims.len() == self.dims.len() && inn != w && inn.is_multiple_of(*w) =>
            {
                return unsupported("a convolution with groups is not supported");
            }
            (false, [_, _, ..], own) => dims == own,
            (false, ..) => false,
        };
        if fits {
            return Ok(());
        }
        let factors: Vec<String> =
            self.factors.sources().iter().map(|s| format!("{} of shape {:?}", s.name, s.shape)).collect();
        let how = if by_columns { " (stored as [in, out])" } else { "" };
        let text = format!("{} do not fit {weight} of shape {dims:?}{how}", factors.join(" and "));
        Err(Error::new(Kind::ShapeMismatch, text).hint("the adapter was trained on a model of another size"))
    }
}
