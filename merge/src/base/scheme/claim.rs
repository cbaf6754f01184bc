//! What a scheme answers.

use std::fmt::Debug;
use std::ops::Range;

use hashbrown::HashMap;
use serde::{Deserialize, Serialize};

use crate::base::quantisation::Quantisation;
use crate::inventory::{SmallTensors, Source};
use crate::statistic::id::StatisticId;
use crate::tensor::float::Float;

/// A way to store parameters.
pub trait Scheme: Debug + Sync {
    /// The name, for people and in recipes.
    fn name(&self) -> &'static str;

    /// The parameter of which the tensor at this place is the first, if it is one of this scheme.
    fn claim(&self, at: usize, tensors: &Tensors<'_>) -> Option<Claim>;

    /// Its layout. `None` if nothing is computed with what it stores.
    fn layout(&self) -> Option<&'static dyn Layout>;

    /// How values become what it stores again, or why they do not.
    ///
    /// # Errors
    /// The reason, as the end of a sentence about the parameter.
    fn encode(&self) -> Result<&'static dyn Encode, &'static str> {
        Err("no formula is known that gives its codes back from values")
    }

    /// Endings of the names of small tensors that planning reads, since their values carry layout.
    fn small(&self) -> &'static [&'static str] {
        &[]
    }
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

    /// Turns the bytes of [`Layout::ranges`], in that order, and the value of [`Layout::statistic`] behind them, into fp32, row-major.
    fn decode(&self, form: StoredForm<'_>, rows: Range<u64>, bytes: &[&[u8]], floats: Floats<'_>, out: &mut [f32]);

    /// Bytes of memory that decoding these rows takes beside what is read and what comes out, if that is more than a few.
    fn beside(&self, _form: StoredForm<'_>, _rows: Range<u64>) -> u64 {
        0
    }

    /// A matrix of some of the rows, as a parameter of its own, with its settings. These rows are those whose columns are the
    /// last dimension. `None` if they cannot be stored apart.
    fn portion(&self, _form: StoredForm<'_>, _rows: Range<u64>) -> Option<(Vec<Source>, Vec<u64>)> {
        None
    }

    /// The statistic whose value stands behind the ranges where rows are decoded. `None` if they need none.
    fn statistic(&self, _form: StoredForm<'_>) -> Option<StatisticId> {
        None
    }

    /// The float that the values are, row after row in a single tensor; `None` if they are anything else.
    fn plain(&self, _form: StoredForm<'_>) -> Option<Float> {
        None
    }
}

/// How values become codes and scales, of a scheme that is a plain rounding: what a block holds follows from its values alone.
///
/// The codes are the first tensor of the parameter and the scales the second. All others stay as they are. Rows are those of
/// [`Layout`], which the scheme also has.
pub trait Encode: Debug + Sync {
    /// The formula of whoever writes such tensors.
    ///
    /// # Errors
    /// Why none is known, as the end of a sentence about the parameter.
    fn rule(&self, form: StoredForm<'_>, said: &Quantisation) -> Result<Rule, String>;

    /// Whether there is such a formula. A rule may come from another process.
    fn knows(&self, rule: Rule) -> bool;

    /// Rows that share blocks: a run of so many, from row 0 on, is encoded by itself. Only the last run is shorter.
    fn unit(&self, form: StoredForm<'_>) -> u64;

    /// Whether one scale serves all values.
    fn has_one_scale(&self, _form: StoredForm<'_>) -> bool {
        false
    }

    /// Encodes whole units. What a block holds stays if its values are as they were.
    fn encode(&self, form: StoredForm<'_>, rule: Rule, units: Units<'_>);

    /// A byte of codes whose values are their scales: codes of 1.
    fn one(&self, form: StoredForm<'_>) -> u8;

    /// How far a code of so many scales may be from what it was made of, in scales.
    fn half_step(&self, scales: f32) -> f32;
}

/// One of a scheme's formulas, by its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule(pub u8);

/// Whole units of rows on their way to codes and scales.
#[derive(Debug)]
pub struct Units<'a> {
    /// The rows.
    pub rows: Range<u64>,
    /// Their values.
    pub values: Values<'a>,
    /// The first of the bytes of [`Layout::ranges`]. It holds what is stored.
    pub codes: &'a mut [u8],
    /// The second of them, likewise.
    pub scales: &'a mut [u8],
}

/// The values of rows, row-major and finite.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// As they are stored.
    pub before: &'a [f32],
    /// As they are to be.
    pub after: &'a [f32],
    /// The other bytes of [`Layout::ranges`], behind those of codes and scales.
    pub beside: &'a [&'a [u8]],
    /// What is known of all rows, where one scale serves them.
    pub whole: Option<Whole>,
    /// Decodes floats.
    pub floats: Floats<'a>,
}

impl Debug for Values<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} values", self.after.len())
    }
}

/// What is known of all values of a parameter.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Whole {
    /// The largest magnitude.
    pub largest: f32,
    /// Whether any value is another one than is stored.
    pub changed: bool,
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
    /// The bytes of the small ones that were read.
    pub small: &'a SmallTensors,
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
    /// The settings of its [`StoredForm`], or why its values cannot be told.
    pub settings: Told,
}

/// Settings, or where config.json and the tensors disagree, with what both say.
pub type Told = Result<Vec<u64>, String>;

impl Claim {
    /// A parameter of a scheme without settings.
    pub(super) fn new(name: String, dims: Vec<u64>, tensors: Vec<usize>) -> Claim {
        Claim { name, dims, tensors, settings: Ok(Vec::new()) }
    }
}
