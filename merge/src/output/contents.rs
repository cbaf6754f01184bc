//! What the output consists of, before it has files.

use serde::{Deserialize, Serialize};

use crate::base::quantisation::Fate;
use crate::base::vocabulary::Vocabulary;
use crate::inventory::ObjectId;
use crate::recipe::Recipe;
use crate::tensor::Dtype;

/// A tensor of the output.
#[derive(Debug, Clone)]
pub struct Tensor {
    /// The name.
    pub name: String,
    /// The element type.
    pub dtype: Dtype,
    /// The shape.
    pub dims: Vec<u64>,
    /// The file of the base that holds it; `None` for a tensor that the base does not hold.
    pub shard: Option<usize>,
    /// How it comes about: in one, or portion by portion.
    pub recipes: Recipes,
}

/// How the rows of a tensor come about.
#[derive(Debug, Clone)]
pub enum Recipes {
    /// All alike.
    Whole(Recipe),
    /// Portion by portion, in order. The rows are those of a matrix whose columns are the last dimension; a vector has one column.
    Portions(Vec<Recipe>),
}

/// The class of a model with a new head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Architecture {
    /// Its name.
    pub class: String,
    /// How many labels the head tells apart.
    pub labels: Option<u64>,
}

/// All tensors, and what the other files depend on.
#[derive(Debug)]
pub struct Contents {
    /// The tensors, in the base's order; new ones at the end.
    pub tensors: Vec<Tensor>,
    /// The new size of the vocabulary, if it changed.
    pub vocabulary: Option<Vocabulary>,
    /// Whether config.json has to say that the two embeddings are different tensors.
    pub untied: bool,
    /// The class of the output, where it is another than the base's.
    pub architecture: Option<Architecture>,
    /// The adapters that have a weight other than 0, by their place in the spec. Only they bring a tokenizer.
    pub in_force: Vec<usize>,
    /// The main float dtype of the base.
    pub main_dtype: Option<Dtype>,
    /// What becomes of the configuration of the quantisation.
    pub quantisation: Fate,
}

/// A small file of the output.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum SmallFile {
    /// A copy of an input.
    Copy(ObjectId),
    /// These bytes.
    Text(String),
}
