//! How much of a delta is left once the values are encoded again.
//!
//! Let d be the wanted delta, the values after the merge less those that are stored, and e what becomes of it: the values of the
//! new codes and scales less those that are stored. A delta that is smaller than half a step of the codes leaves e = 0; others lose
//! direction and length. What is measured is the cosine of e and d, and |e| / |d|.

use serde::{Deserialize, Serialize};

use super::block::Block;
use crate::base::scheme::claim::Floats;
use crate::base::scheme::recode::{Recoder, Rows};
use crate::error::{Error, Kind};

/// Sums over the values of a parameter, in f64. The values of a unit are added in the order of rows and columns, units and blocks
/// in their order.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// Of the squares of d.
    pub wanted: f64,
    /// Of the squares of e.
    pub left: f64,
    /// Of their products.
    pub common: f64,
}

impl Sums {
    /// Those of a block.
    pub(super) fn of(recoder: &Recoder<'_>, floats: Floats<'_>, block: &Block<'_>) -> Sums {
        let rows = Rows {
            rows: &block.rows,
            before: block.before,
            after: block.after,
            stored: block.stored,
            whole: block.whole,
        };
        let encoded = recoder.encoded(&rows, floats);
        let count = (block.rows.end - block.rows.start).max(1) as usize;
        let unit = recoder.unit() as usize * (block.after.len() / count);
        let units = block.before.chunks(unit).zip(block.after.chunks(unit)).zip(encoded.chunks(unit));
        units.map(|((before, after), encoded)| Sums::of_unit(before, after, encoded)).fold(Sums::default(), Sums::and)
    }

    fn of_unit(before: &[f32], after: &[f32], encoded: &[f32]) -> Sums {
        let mut sums = Sums::default();
        for (before, (after, encoded)) in before.iter().zip(after.iter().zip(encoded)) {
            let (wanted, left) = (f64::from(after - before), f64::from(encoded - before));
            sums.wanted += wanted * wanted;
            sums.left += left * left;
            sums.common += wanted * left;
        }
        sums
    }

    /// Both together.
    pub fn and(self, other: Sums) -> Sums {
        Sums { wanted: self.wanted + other.wanted, left: self.left + other.left, common: self.common + other.common }
    }

    /// As the value of a statistic.
    pub(super) fn numbers(self) -> [f64; 3] {
        [self.wanted, self.left, self.common]
    }

    /// The value of a statistic.
    ///
    /// # Panics
    /// If it is another one's.
    pub fn read(value: &[f64]) -> Sums {
        Sums { wanted: value[0], left: value[1], common: value[2] }
    }

    /// The figures of a parameter. Where nothing was wanted, all of it is there.
    pub fn figures(self, tensor: &str) -> Survived {
        let (cosine, norm) = match self {
            Sums { wanted: 0.0, .. } => (1.0, 1.0),
            Sums { left: 0.0, .. } => (0.0, 0.0),
            Sums { wanted, left, common } => (common / (wanted * left).sqrt(), (left / wanted).sqrt()),
        };
        Survived { tensor: tensor.to_owned(), cosine, norm }
    }
}

/// How much of the delta of a parameter survived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Survived {
    /// The parameter.
    pub tensor: String,
    /// The cosine of what became of the delta and the wanted delta; 0 if nothing was applied.
    pub cosine: f64,
    /// The norm of what became of the delta over that of the wanted delta.
    pub norm: f64,
}

/// The limit below which a merge ends.
pub const LIMIT: f64 = 0.9;

/// Bytes of names in the error.
const NAMED: usize = 5 << 10;

/// Refuses a merge that loses more than the limit allows: names every parameter below it, the worst first.
///
/// # Errors
/// `delta_lost`.
pub fn check(all: &[Survived], limit: f64) -> Result<(), Error> {
    // What is no number is below every limit but 0, which takes everything.
    let is_lost = |survived: &&Survived| limit > 0.0 && (survived.cosine.is_nan() || survived.cosine < limit);
    let mut lost: Vec<&Survived> = all.iter().filter(is_lost).collect();
    if lost.is_empty() {
        return Ok(());
    }
    lost.sort_by(|a, b| a.cosine.total_cmp(&b.cosine).then_with(|| a.tensor.cmp(&b.tensor)));
    let (mut text, mut named) = (String::new(), 0);
    for Survived { tensor, cosine, norm } in &lost {
        let line = format!("{tensor} (cosine {cosine:.3}, norm {norm:.3})");
        if named > 0 && text.len() + line.len() > NAMED {
            break;
        }
        text = if named == 0 { line } else { format!("{text}, {line}") };
        named += 1;
    }
    if named < lost.len() {
        text = format!("{text}, and {} more", lost.len() - named);
    }
    let (count, of) = (lost.len(), all.len());
    let what = format!(
        "requantising would lose the delta of {count} of {of} weights, whose cosine with what is left of it is below {limit}: {text}"
    );
    Err(Error::new(Kind::DeltaLost, what)
        .hint("--quantised keep writes the changed weights as floats; --survival sets the limit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanted_is_what_the_merge_adds_and_left_is_what_codes_keep_of_it() {
        let sums = Sums::of_unit(&[1.0, 1.0], &[3.0, 1.0], &[2.0, 0.5]);
        assert_eq!(sums, Sums { wanted: 4.0, left: 1.25, common: 2.0 });
    }

    #[test]
    fn figures_are_cosine_and_ratio_of_norms() {
        let figures = |wanted, left, common| {
            let Survived { cosine, norm, .. } = Sums { wanted, left, common }.figures("w");
            (cosine, norm)
        };
        assert_eq!(figures(4.0, 9.0, 3.0), (0.5, 1.5));
        assert_eq!(figures(4.0, 0.0, 0.0), (0.0, 0.0), "nothing was applied");
        assert_eq!(figures(0.0, 0.0, 0.0), (1.0, 1.0), "nothing was wanted");
    }

    #[test]
    fn what_is_below_the_limit_is_named_in_one_error_the_worst_first() {
        let of = |tensor: &str, cosine| Survived { tensor: tensor.to_owned(), cosine, norm: 0.5 };
        let all = [of("a", 0.8), of("b", 0.9), of("c", 0.0), of("d", f64::NAN)];
        assert!(check(&all[1..2], 0.9).is_ok() && check(&[], 0.9).is_ok());
        assert!(check(&[of("e", -0.1)], 0.0).is_ok(), "0 takes everything");
        let error = check(&all, 0.9).unwrap_err();
        assert_eq!(error.kind(), Kind::DeltaLost);
        let text = error.message();
        assert!(text.contains("the delta of 3 of 4 weights"), "{text}");
        assert!(
            text.ends_with("c (cosine 0.000, norm 0.500), a (cosine 0.800, norm 0.500), d (cosine NaN, norm 0.500)"),
            "{text}"
        );
        assert!(error.advice().unwrap().contains("--quantised keep"));
    }

    #[test]
    fn more_names_than_an_error_holds_are_counted() {
        let all: Vec<Survived> = (0..500)
            .map(|i| Survived { tensor: format!("model.layers.{i}.mlp.up_proj.weight"), cosine: 0.1, norm: 0.1 })
            .collect();
        let text = check(&all, 0.9).unwrap_err().message().to_owned();
        let named = text.matches("model.layers.").count();
        assert!(named > 50 && text.ends_with(&format!("and {} more", 500 - named)), "{text}");
        assert!(text.len() < crate::error::MAX_MESSAGE);
    }
}
