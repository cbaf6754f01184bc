//! The two factors of a module.

use super::keys::{A, B, EMBEDDING_A, EMBEDDING_B};
use crate::adapter::module::Module;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// The two factors of a module.
pub(super) struct Pair<'a> {
    pub(super) a: &'a Source,
    pub(super) b: &'a Source,
    pub(super) embedding: bool,
}

impl<'a> Pair<'a> {
    pub(super) fn of(module: &Module<'a>) -> Result<Pair<'a>> {
        let part = |name| module.parts.get(name);
        let all = [part(A), part(B), part(EMBEDDING_A), part(EMBEDDING_B)];
        let missing = match all {
            [Some(a), Some(b), None, None] => return Ok(Pair { a, b, embedding: false }),
            [None, None, Some(a), Some(b)] => return Ok(Pair { a, b, embedding: true }),
            [Some(_), Some(_), _, _] => {
                let text = format!("{} has a linear and an embedding pair", module.name);
                return Err(Error::new(Kind::Conflict, text));
            }
            [Some(_), None, ..] => B,
            [None, Some(_), ..] => A,
            [.., Some(_), None] => EMBEDDING_B,
            [.., None, Some(_)] => EMBEDDING_A,
            _ => "lora_A and lora_B",
        };
        let have: Vec<&str> = module.parts.all().map(|t| t.name.as_str()).collect();
        Err(Error::new(Kind::IncompletePair, format!("{} has {} and no {missing}", module.name, have.join(", "))))
    }

    /// The shape of the product, outputs first.
    pub(super) fn dims(&self) -> Result<Vec<u64>> {
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
