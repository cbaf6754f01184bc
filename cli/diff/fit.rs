//! Whether a change is the one that was expected.

use serde::Serialize;

/// Sums over the elements of a tensor: what was expected of each, as the dtype of the second version holds it, and what is seen.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Fit {
    /// The squares of the expected changes.
    pub wanted: f64,
    /// The squares of the changes that are seen.
    pub seen: f64,
    /// Their products.
    pub common: f64,
    /// The squares of their differences.
    pub off: f64,
    /// The squares of half an ulp of each element: another order of the same sums may round otherwise.
    pub rounding: f64,
}

/// What a change is, compared with the expected one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The expected one.
    Fits,
    /// None, though one was expected.
    Lost,
    /// Half of it.
    Half,
    /// Twice as much.
    Doubled,
    /// A multiple of it.
    Scaled,
    /// The same with the other sign.
    Negated,
    /// The same about, with more beside it than rounding explains.
    Inexact,
    /// It has nothing to do with it.
    Unrelated,
    /// Something else.
    Different,
    /// One, though none was expected.
    Unexpected,
    /// The second version lacks the tensor, or it has another shape.
    Missing,
}

/// How far the share of the expected change may be from 1.
const SHARE: f64 = 0.1;
/// How much of the expected change may be missing or too much, beside rounding.
const OFF: f64 = 0.2;
/// How parallel two changes are from which one is called a multiple of the other.
const PARALLEL: f64 = 0.9;

impl Fit {
    /// Adds an element: the expected change, that which is seen, and half an ulp.
    pub fn add(&mut self, wanted: f64, seen: f64, half_ulp: f64) {
        self.wanted += wanted * wanted;
        self.seen += seen * seen;
        self.common += wanted * seen;
        self.off += (seen - wanted) * (seen - wanted);
        self.rounding += half_ulp * half_ulp;
    }

    /// The cosine between both; 1 if both are none, 0 if one is.
    pub fn cosine(&self) -> f64 {
        match (self.wanted > 0.0, self.seen > 0.0) {
            (true, true) => self.common / (self.wanted.sqrt() * self.seen.sqrt()),
            (false, false) => 1.0,
            _ => 0.0,
        }
    }

    /// The norm of what is seen over that of what was expected; none where nothing was.
    pub fn ratio(&self) -> Option<f64> {
        (self.wanted > 0.0).then(|| (self.seen / self.wanted).sqrt())
    }

    /// What that is in a word.
    pub fn verdict(&self) -> Verdict {
        let Some(ratio) = self.ratio() else {
            return if self.seen > 0.0 { Verdict::Unexpected } else { Verdict::Fits };
        };
        if self.seen == 0.0 {
            return Verdict::Lost;
        }
        let (share, cosine) = (self.common / self.wanted, self.cosine());
        if (share - 1.0).abs() <= SHARE && self.off.sqrt() <= OFF * self.wanted.sqrt() + self.rounding.sqrt() {
            return Verdict::Fits;
        }
        let near = |value: f64| (ratio / value - 1.0).abs() <= SHARE;
        match cosine {
            c if c >= PARALLEL && near(1.0) => Verdict::Inexact,
            c if c >= PARALLEL && near(0.5) => Verdict::Half,
            c if c >= PARALLEL && near(2.0) => Verdict::Doubled,
            c if c >= PARALLEL => Verdict::Scaled,
            c if c <= -PARALLEL => Verdict::Negated,
            c if c.abs() <= 1.0 - PARALLEL => Verdict::Unrelated,
            _ => Verdict::Different,
        }
    }
}

impl Verdict {
    /// As the end of a sentence about a tensor.
    pub fn told(self) -> &'static str {
        match self {
            Verdict::Fits => "changed as expected",
            Verdict::Lost => "the change is lost: nothing of it is there",
            Verdict::Half => "half of the change is there",
            Verdict::Doubled => "the change is doubled",
            Verdict::Scaled => "the change is scaled",
            Verdict::Negated => "the change has the other sign",
            Verdict::Inexact => "the change is there, with more noise than rounding explains",
            Verdict::Unrelated => "the change has nothing to do with the expected one",
            Verdict::Different => "the change is another one",
            Verdict::Unexpected => "changed, and no change was expected",
            Verdict::Missing => "the second checkpoint lacks it, or has it in another shape",
        }
    }

    /// What may have happened.
    pub fn hint(self) -> &'static str {
        match self {
            Verdict::Lost => {
                "was the base saved instead of the merged model? Or name the adapter's weight: --expect PATH=0"
            }
            Verdict::Doubled => "was the adapter merged twice, or with another weight? --expect PATH=2 expects that",
            Verdict::Half | Verdict::Scaled => "was it merged with a weight? --expect PATH=WEIGHT expects that",
            Verdict::Negated => "was the adapter subtracted, or are the two checkpoints the other way round?",
            _ => "name all adapters that were merged, in their order, and the base before the output",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Values of no pattern, between -1 and 1.
    fn noise(seed: u64) -> impl Iterator<Item = f64> {
        let mut state = seed;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1u64 << 52) as f64 - 1.0
        })
    }

    fn of(change: impl Fn(f64, f64) -> f64, half_ulp: f64) -> Fit {
        let mut fit = Fit::default();
        noise(1).zip(noise(2)).take(10_000).for_each(|(w, other)| fit.add(w, change(w, other), half_ulp));
        fit
    }

    #[test]
    fn what_became_of_a_change_is_told_in_a_word() {
        for (change, verdict, ratio) in [
            ((|w, _| w) as fn(f64, f64) -> f64, Verdict::Fits, 1.0),
            (|w, other| w + 0.05 * other, Verdict::Fits, 1.0),
            (|_, _| 0.0, Verdict::Lost, 0.0),
            (|w, _| w / 2.0, Verdict::Half, 0.5),
            (|w, _| w * 2.0, Verdict::Doubled, 2.0),
            (|w, _| w * 0.8, Verdict::Scaled, 0.8),
            (|w, _| -w, Verdict::Negated, 1.0),
            (|w, other| w + 0.4 * other, Verdict::Inexact, 1.08),
            (|_, other| other, Verdict::Unrelated, 1.0),
            (|w, other| w + other, Verdict::Different, 1.41),
        ] {
            let fit = of(change, 0.0);
            assert_eq!(fit.verdict(), verdict, "{fit:?}");
            assert!((fit.ratio().unwrap() - ratio).abs() < 0.02, "{verdict:?}: {:?}", fit.ratio());
        }
        let mut none = Fit::default();
        none.add(0.0, 0.0, 1.0);
        assert_eq!((none.verdict(), none.ratio(), none.cosine()), (Verdict::Fits, None, 1.0));
        none.add(0.0, 1.0, 1.0);
        assert_eq!(none.verdict(), Verdict::Unexpected);
    }

    #[test]
    fn rounding_explains_noise_and_never_a_change_that_is_lost_or_doubled() {
        assert_eq!(of(|w, other| w + other, 1.0).verdict(), Verdict::Fits);
        assert_eq!(of(|_, _| 0.0, 1.0).verdict(), Verdict::Lost);
        assert_eq!(of(|w, _| 2.0 * w, 1.0).verdict(), Verdict::Doubled);
    }
}
