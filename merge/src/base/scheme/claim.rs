//! What a scheme answers.

use std::collections::HashMap;
use std::fmt::Debug;
use std::ops::Range;

use crate::base::quantisation::Quantisation;
use crate::inventory::Source;
use crate::tensor::float::Float;

/// A way to store parameters.
pub trait Scheme: Debug + Sync {
    /// The name, for people and in recipes.
    fn name(&self) -> &'static str;

    /// The parameter of which the tensor at this place is the first, if it is one of this scheme.
    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim>;

    /// Its layout. `None` if nothing is computed with what it stores.
    fn layout(&self) -> Option<&'static dyn Layout>;
}

/// Where the values of a parameter are among the bytes of its tensors, and how they become fp32.
///
/// All methods but [`Layout::dims`] take forms and rows that it has approved. Rows are those of the parameter as a matrix: the
/// first dimension, or what [`Layout::portion`] made of it.
pub trait Layout: Debug + Sync {
    /// The shape of the parameter that is stored so.
    ///
    /// # Errors
    /// If none is. The form may come from another process.
    fn dims(&self, form: StoredForm<'_>) -> Result<Vec<u64>, String>;

    /// The bytes that hold rows of the parameter: ranges within its tensors. Ranges of earlier rows come first within a
    /// tensor.
    fn ranges(&self, form: StoredForm<'_>, rows: Range<u64>) -> Vec<Stretch>;

    /// Turns the bytes of [`Layout::ranges`], in that order, into fp32, row-major.
    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]);

    /// A matrix of some of the rows, as a parameter of its own, with its settings. These rows are those whose columns are the
    /// last dimension. `None` if they cannot be stored apart.
    fn portion(&self, form: StoredForm<'_>, rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)>;

    /// The float that the values are, row after row in a single tensor; `None` if they are anything else.
    fn plain(&self, form: StoredForm<'_>) -> Option<Float>;
}

/// A parameter as it is stored.
#[derive(Debug, Clone, Copy)]
pub struct StoredForm<'a> {
    /// Its tensors, in the scheme's order.
    pub tensors: &'a [Source],
    /// What the scheme has to know beside them, such as the size of a block.
    pub settings: &'a [u64],
}

/// Lines of a tensor as a tensor of their own: `lines` of so many in all.
pub(super) fn lines_of(tensor: &Source, lines: Range<u64>, all: u64, shape: Vec<u64>) -> Option<Source> {
    let bytes = tensor.bytes();
    let line = bytes.checked_div(all).filter(|line| line * all == bytes)?;
    Some(Source { offset: tensor.offset + lines.start * line, shape, ..tensor.clone() })
}

/// A range of the bytes of one of a parameter's tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretch {
    /// The tensor's place among them.
    pub tensor: usize,
    /// The bytes, from the tensor's first one on.
    pub bytes: Range<u64>,
}

/// Decodes floats, as [`crate::tensor::float::decode`] does. A faster one must give the same bits.
pub type Floats<'a> = &'a (dyn Fn(Float, &[u8], &mut [f32]) + 'a);

/// The stored tensors of a checkpoint, in the order of its files.
#[derive(Debug)]
pub struct Tensors<'a> {
    pub(super) all: Vec<&'a Source>,
    pub(super) by_name: HashMap<&'a str, usize>,
    /// What config.json says of them.
    pub quantisation: &'a Quantisation,
}

impl<'a> Tensors<'a> {
    /// The tensor at a place.
    pub fn at(&self, at: usize) -> &'a Source {
        self.all[at]
    }

    /// The place of a tensor.
    pub fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }
}

/// A parameter that a scheme found.
#[derive(Debug)]
pub struct Claim {
    /// The parameter's name.
    pub name: String,
    /// Its shape.
    pub dims: Vec<u64>,
    /// The places of its tensors, in the scheme's order.
    pub tensors: Vec<usize>,
    /// The settings of its [`StoredForm`].
    pub settings: Vec<u64>,
}

impl Claim {
    /// A parameter of a scheme without settings.
    pub(super) fn new(name: String, dims: Vec<u64>, tensors: Vec<usize>) -> Claim {
        Claim { name, dims, tensors, settings: Vec::new() }
    }
}
