//! The two factors of a module.

use crate::adapter::module::Module;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// The two factors of a module.
pub(in crate::adapter::kind) struct Pair<'a> {
    pub(in crate::adapter::kind) a: &'a Source,
    pub(in crate::adapter::kind) b: &'a Source,
    pub(in crate::adapter::kind) embedding: bool,
}

impl<'a> Pair<'a> {
    /// The factors of a module, by the names of their parts: two of a layer, and two of an embedding.
    ///
    /// # Errors
    /// `incomplete_pair` or `conflict` if it has not exactly two.
    pub(in crate::adapter::kind) fn of(module: &Module<'a>, names: [&'static str; 4]) -> Result<Pair<'a>> {
        let [a, b, embedding_a, embedding_b] = names;
        let all = names.map(|name| module.parts.get(name));
        let missing = match all {
            [Some(a), Some(b), None, None] => return Ok(Pair { a, b, embedding: false }),
            [None, None, Some(a), Some(b)] => return Ok(Pair { a, b, embedding: true }),
            [Some(_), Some(_), _, _] => {
                let text = format!("{} has a linear and an embedding pair", module.name);
                return Err(Error::new(Kind::Conflict, text));
            }
            [Some(_), None, ..] => b.to_owned(),
            [None, Some(_), ..] => a.to_owned(),
            [.., Some(_), None] => embedding_b.to_owned(),
            [.., None, Some(_)] => embedding_a.to_owned(),
            _ => format!("{a} and {b}"),
        };
        let have: Vec<&str> = module.parts.all().map(|t| t.name.as_str()).collect();
        Err(Error::new(Kind::IncompletePair, format!("{} has {} and no {missing}", module.name, have.join(", "))))
    }

    /// The shape of the product, outputs first.
    pub(in crate::adapter::kind) fn dims(&self) -> Result<Vec<u64>> {
        let (a, b) = (self.a, self.b);
        let shaped = |s: &Source| format!("{} of shape {:?}", s.name, s.shape);
        let ([inner, rest @ ..], [out, rank, kernel @ ..]) = (a.shape.as_slice(), b.shape.as_slice()) else {
            return Err(self.no_matrices());
        };
        if rest.is_empty() {
            return Err(self.no_matrices());
        }
        if rest.len() > 1 && inner != rank && inner.is_multiple_of(*rank) {
            let text = format!("{} and {}: a convolution with groups is not supported", shaped(a), shaped(b));
            return Err(Error::new(Kind::Unsupported, text));
        }
        if inner != rank {
            return Err(Error::new(
                Kind::RankMismatch,
                format!(
                    "{} has rank {inner} (shape {:?}), {} has rank {rank} (shape {:?})",
                    a.name, a.shape, b.name, b.shape
                ),
            ));
        }
        if kernel.iter().any(|d| *d != 1) || rest.len() == 1 && !kernel.is_empty() {
            let text = format!("{} and {} are no factors of one delta", shaped(a), shaped(b));
            return Err(Error::new(Kind::ShapeMismatch, text));
        }
        Ok(std::iter::once(*out).chain(rest.iter().copied()).collect())
    }

    fn no_matrices(&self) -> Error {
        let (a, b) = (self.a, self.b);
        Error::new(
            Kind::ShapeMismatch,
            format!("{} has shape {:?} and {} has shape {:?}, expected matrices", a.name, a.shape, b.name, b.shape),
        )
    }
}
