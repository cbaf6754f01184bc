//! Matrices that are made of stored tensors before a tile is computed: the factors of a Kronecker product, rotations.
//!
//! Each way to make them is defined in one file, in f64 with a fixed order of operations, and rounded once to fp32. No
//! operation is fused, so every machine gets the same bits. The same values, not rounded, serve the definitions in f64.
//! A worker makes them once and keeps them for neighbouring parts, so they are whole in memory.

mod bases;
mod cayley;
mod cut;
mod definition;
mod entries;
mod functions;
mod gathered;
mod householder;
mod mixture;
mod normalised;
mod product;
mod tucker;
mod whole;

use serde::{Deserialize, Serialize};

pub use bases::Bases;
pub use cayley::{Cayley, MOST_TERMS, Skew};
pub use cut::Cut;
pub use definition::Size;
pub use entries::Entries;
pub use gathered::Gathered;
pub use householder::{Half, Householder};
pub use mixture::{Mixture, Weights};
pub use normalised::Normalised;
pub use product::Product;
pub use tucker::Tucker;
pub use whole::Whole;

use definition::Definition;

use super::operand::Operand;
use super::tile::NoResult;

/// Matrices, and how they are made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Made {
    /// Stored matrices as they are.
    Whole(Whole),
    /// A product of two stored matrices.
    Product(Product),
    /// A kernel from a core and two factors.
    Tucker(Tucker),
    /// Rotations, less the identity.
    Cayley(Cayley),
    /// Half of a product of reflections.
    Householder(Householder),
    /// Tiles of a stored matrix, transposed.
    Cut(Cut),
    /// A factor whose products have a bounded norm.
    Normalised(Normalised),
    /// The entries of a sparse matrix.
    Entries(Entries),
    /// Mixtures of a few vectors.
    Mixture(Mixture),
    /// Elements that are picked from a vector.
    Gathered(Gathered),
    /// A basis in many scalings.
    Bases(Bases),
}

/// The form in which an operation takes matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// All values, row-major, one matrix after another.
    Plain,
    /// Each as a right factor.
    Rights,
}

/// Matrices, and the form in which they are needed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Matrices<'a> {
    /// The matrices.
    pub made: &'a Made,
    /// The form.
    pub form: Form,
}

impl<'a> Matrices<'a> {
    /// As right factors.
    pub(super) fn rights(made: &'a Made) -> Self {
        Matrices { made, form: Form::Rights }
    }

    /// As plain values.
    pub(super) fn plain(made: &'a Made) -> Self {
        Matrices { made, form: Form::Plain }
    }
}

/// Calls the definition of a way to make matrices.
macro_rules! each {
    ($made:expr, $kind:ident => $call:expr) => {
        match $made {
            Made::Whole($kind) => $call,
            Made::Product($kind) => $call,
            Made::Tucker($kind) => $call,
            Made::Cayley($kind) => $call,
            Made::Householder($kind) => $call,
            Made::Cut($kind) => $call,
            Made::Normalised($kind) => $call,
            Made::Entries($kind) => $call,
            Made::Mixture($kind) => $call,
            Made::Gathered($kind) => $call,
            Made::Bases($kind) => $call,
        }
    };
}

impl Made {
    /// What it reads, all of each.
    pub fn operands(&self) -> Vec<&Operand> {
        each!(self, kind => kind.operands())
    }

    /// The operand whose numbers are places: they may be stored as integers.
    pub fn places(&self) -> Option<&Operand> {
        each!(self, kind => kind.places())
    }

    /// What it gives.
    ///
    /// # Errors
    /// If the operands do not fit each other, naming them.
    pub fn size(&self) -> Result<Size, String> {
        each!(self, kind => kind.size())
    }

    /// Elements of all matrices; 0 if the operands do not fit each other.
    pub fn elements(&self) -> u64 {
        self.size().map_or(0, Size::elements)
    }

    /// The definition: all matrices, one after another, row-major. The values are those of [`Self::operands`].
    ///
    /// # Errors
    /// If a vector that is divided by its norm has none, or a stored place is none.
    ///
    /// # Panics
    /// If lengths do not fit.
    pub fn make(&self, values: &[&[f64]]) -> Result<Vec<f64>, NoResult> {
        each!(self, kind => kind.make(values))
    }

    /// Multiply-adds that making them takes, about.
    pub fn effort(&self) -> u64 {
        each!(self, kind => kind.effort())
    }
}

/// Rounded to fp32.
pub fn rounded(values: &[f64]) -> Vec<f32> {
    values.iter().map(|v| *v as f32).collect()
}
