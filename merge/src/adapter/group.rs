//! The tensors of one low-rank module, and the edits that they make.

use super::config::AdapterConfig;
use super::resolve::{Change, Edit, Names, Pair, Resolved};
use super::scale::Scales;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;
use crate::tensor::DtypeExt;

/// Where a module's tensors belong.
pub(super) struct Place<'a> {
    /// The module's place among all of the adapter.
    pub(super) number: usize,
    /// The module as the adapter names it.
    pub(super) module: &'a str,
    /// The base's tensor.
    pub(super) tensor: &'a str,
    /// The module as the base names it.
    pub(super) base_module: &'a str,
}

/// What all modules of an adapter have in common.
pub(super) struct Context<'a> {
    pub(super) config: &'a AdapterConfig,
    pub(super) scales: &'a Scales<'a>,
    pub(super) names: &'a dyn Names,
}

/// The tensors of one module, by the part that they play.
#[derive(Default)]
pub(super) struct LoraGroup<'a> {
    pub(super) a: Option<&'a Source>,
    pub(super) b: Option<&'a Source>,
    pub(super) bias: Option<&'a Source>,
    pub(super) embedding_a: Option<&'a Source>,
    pub(super) embedding_b: Option<&'a Source>,
    pub(super) magnitude: Option<&'a Source>,
}

impl LoraGroup<'_> {
    pub(super) fn tensors(&self) -> impl Iterator<Item = &Source> {
        [self.a, self.b, self.bias, self.embedding_a, self.embedding_b, self.magnitude].into_iter().flatten()
    }

    /// Adds what the tensors do to the place that they were found to belong to.
    pub(super) fn edits(&self, place: &Place<'_>, adapter: &Context<'_>, out: &mut Resolved) -> Result<()> {
        let Place { number, module, tensor, base_module } = *place;
        let Context { config, scales, names } = adapter;
        let (a, b, embedding) = self.pair(module)?;
        for t in self.tensors() {
            if !t.dtype.fusable() {
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("adapter tensor {} is {}, expected F32, F16 or BF16", t.name, t.dtype.name()),
                ));
            }
        }
        if a.shape.len() < 2 || b.shape.len() < 2 {
            return Err(Error::new(
                Kind::ShapeMismatch,
                format!("{} has shape {:?} and {} has shape {:?}, expected matrices", a.name, a.shape, b.name, b.shape),
            ));
        }
        if a.shape.len() > 2 && a.shape[0] != b.shape[1] && a.shape[0].is_multiple_of(b.shape[1]) {
            let (a, b) = (format!("{} of shape {:?}", a.name, a.shape), format!("{} of shape {:?}", b.name, b.shape));
            return Err(Error::new(
                Kind::Unsupported,
                format!("{a} and {b}: a convolution with groups is not supported"),
            ));
        }
        if a.shape[0] != b.shape[1] {
            return Err(Error::new(
                Kind::RankMismatch,
                format!(
                    "{} has rank {} (shape {:?}), {} has rank {} (shape {:?})",
                    a.name, a.shape[0], a.shape, b.name, b.shape[1], b.shape
                ),
            ));
        }
        let (rank, scale) = scales.of(number, module, a, out)?;
        let edit = |tensor: &str, change| Edit { tensor: tensor.to_owned(), module: base_module.to_owned(), change };
        match (config.use_dora, self.magnitude) {
            (true, None) => {
                return Err(Error::new(
                    Kind::MissingTensor,
                    format!("use_dora is true, and {module} has no lora_magnitude_vector"),
                )
                .hint("the adapter was saved without its magnitudes; save it again with PEFT"));
            }
            (false, Some(m)) => {
                out.warnings.push(format!("{} is there although use_dora is false: merged as DoRA", m.name))
            }
            _ => {}
        }
        if let Some(bias) = self.bias {
            if embedding || self.magnitude.is_some() {
                let what = if embedding { "an embedding" } else { "DoRA" };
                return Err(Error::new(
                    Kind::Unsupported,
                    format!("{} is a bias delta of {what}, which has none", bias.name),
                ));
            }
            let target =
                tensor.strip_suffix("weight").map(|t| format!("{t}bias")).filter(|t| names.has(t)).ok_or_else(
                    || {
                        Error::new(
                            Kind::MissingTensor,
                            format!("{} adds to a bias, and the base has no {base_module}.bias", bias.name),
                        )
                    },
                )?;
            out.edits.push(edit(&target, Change::Bias { source: bias.clone(), scale }));
        }
        let pair = Pair { a: a.clone(), b: b.clone(), embedding, rank, scale, magnitude: self.magnitude.cloned() };
        out.edits.push(edit(tensor, Change::Pair(pair)));
        Ok(())
    }

    fn pair(&self, module: &str) -> Result<(&Source, &Source, bool)> {
        match (self.a, self.b, self.embedding_a, self.embedding_b) {
            (Some(a), Some(b), None, None) => Ok((a, b, false)),
            (None, None, Some(a), Some(b)) => Ok((a, b, true)),
            (Some(_), Some(_), _, _) => {
                Err(Error::new(Kind::Conflict, format!("{module} has a linear and an embedding pair")))
            }
            _ => {
                let have: Vec<&str> = self.tensors().map(|t| t.name.as_str()).collect();
                let missing = match (self.a, self.b, self.embedding_a, self.embedding_b) {
                    (Some(_), None, ..) => "lora_B",
                    (None, Some(_), ..) => "lora_A",
                    (.., Some(_), None) => "lora_embedding_B",
                    (.., None, Some(_)) => "lora_embedding_A",
                    _ => "lora_A and lora_B",
                };
                Err(Error::new(Kind::IncompletePair, format!("{module} has {} and no {missing}", have.join(", "))))
            }
        }
    }
}
