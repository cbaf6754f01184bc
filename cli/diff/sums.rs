//! What is summed over the values of two versions of a tensor.

/// Sums over values.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sums {
    /// How many were compared.
    pub elements: u64,
    /// How many are others.
    pub changed: u64,
    /// The squares of those before.
    pub before: f64,
    /// The squares of the differences.
    pub delta: f64,
    /// The largest difference, and the number of its element.
    pub largest: (f64, u64),
    /// Changed values of which one version is not finite: they are in no other sum.
    pub non_finite: u64,
}

impl Sums {
    /// Adds values, the first of which has this number.
    pub fn add(&mut self, first: u64, before: &[f32], after: &[f32]) {
        for (at, (before, after)) in (first..).zip(before.iter().zip(after)) {
            self.elements += 1;
            if before.is_finite() {
                self.before += f64::from(*before) * f64::from(*before);
            }
            if before == after || before.to_bits() == after.to_bits() {
                continue;
            }
            self.changed += 1;
            let delta = f64::from(*after) - f64::from(*before);
            if !delta.is_finite() {
                self.non_finite += 1;
                continue;
            }
            self.delta += delta * delta;
            if delta.abs() > self.largest.0 {
                self.largest = (delta.abs(), at);
            }
        }
    }

    /// The norm of the change over that of what was before; `None` where there was nothing but zeros.
    pub fn relative(&self) -> Option<f64> {
        match (self.delta, self.before) {
            (0.0, _) => Some(0.0),
            (_, 0.0) => None,
            (delta, before) => Some((delta / before).sqrt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_relative_norm_the_count_and_the_largest_are_those_of_all_batches() {
        let mut sums = Sums::default();
        sums.add(0, &[3.0, -0.0], &[3.0, 0.0]);
        sums.add(2, &[4.0, 0.0], &[4.5, -2.0]);
        assert_eq!((sums.elements, sums.changed, sums.largest), (4, 2, (2.0, 3)));
        assert_eq!(sums.relative(), Some((4.25f64).sqrt() / 5.0));
        assert_eq!(Sums::default().relative(), Some(0.0));
    }

    #[test]
    fn what_is_not_finite_is_counted_and_spoils_no_sum() {
        let mut sums = Sums::default();
        sums.add(0, &[f32::NAN, f32::INFINITY, 1.0], &[f32::NAN, 1.0, f32::NAN]);
        assert_eq!((sums.changed, sums.non_finite, sums.relative()), (2, 2, Some(0.0)));
    }
}
