//! Experts that a checkpoint stores one by one.

use std::collections::BTreeMap;

/// The stored tensors of one stacked parameter [experts, rows, columns].
#[derive(Debug, Clone)]
pub struct OneByOne<'a> {
    /// For each part of the rows, the tensors by expert.
    parts: Vec<BTreeMap<u64, (&'a str, &'a [u64])>>,
}

impl<'a> OneByOne<'a> {
    /// No tensor yet, of so many parts.
    pub(super) fn new(parts: usize) -> OneByOne<'a> {
        OneByOne { parts: vec![BTreeMap::new(); parts] }
    }

    /// Adds a tensor.
    pub(super) fn insert(&mut self, part: usize, expert: u64, name: &'a str, shape: &'a [u64]) {
        self.parts[part].insert(expert, (name, shape));
    }

    /// The shape of the parameter.
    ///
    /// # Errors
    /// What is missing, or differs from the others.
    pub fn shape(&self) -> Result<[u64; 3], String> {
        let experts = self.parts.iter().filter_map(|part| part.keys().last()).max().map_or(0, |last| last + 1);
        let mut first = None;
        for expert in 0..experts {
            for part in &self.parts {
                let Some((name, shape)) = part.get(&expert) else {
                    let example = part.values().next().or(self.parts[0].values().next()).map_or("", |(name, _)| name);
                    return Err(format!(
                        "expert {expert} of {experts} lacks the tensor that others store as {example}"
                    ));
                };
                let [rows, cols] = **shape else {
                    return Err(format!("{name} has the shape {shape:?}, expected a matrix"));
                };
                let (one, dims) = *first.get_or_insert((*name, [rows, cols]));
                if dims != [rows, cols] {
                    return Err(format!("{name} has the shape {shape:?}, {one} has {dims:?}"));
                }
            }
        }
        let (_, [rows, cols]) = first.ok_or("no experts")?;
        Ok([experts, rows * self.parts.len() as u64, cols])
    }

    /// How many parts the rows of an expert have.
    pub fn parts(&self) -> u64 {
        self.parts.len() as u64
    }

    /// The tensor that stores a part of an expert.
    pub fn tensor(&self, part: u64, expert: u64) -> Option<&'a str> {
        self.parts.get(part as usize)?.get(&expert).map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tensors: &[(usize, u64, &'static str, &'static [u64])]) -> OneByOne<'static> {
        let mut stack = OneByOne::new(2);
        tensors.iter().for_each(|(part, expert, name, shape)| stack.insert(*part, *expert, name, shape));
        stack
    }

    #[test]
    fn parts_lie_one_after_another_in_an_expert() {
        let all = of(&[(0, 0, "g0", &[3, 4]), (1, 0, "u0", &[3, 4]), (0, 1, "g1", &[3, 4]), (1, 1, "u1", &[3, 4])]);
        assert_eq!(all.shape(), Ok([2, 6, 4]));
        assert_eq!((all.tensor(1, 0), all.tensor(0, 2)), (Some("u0"), None));
    }

    #[test]
    fn a_missing_expert_and_a_shape_of_its_own_are_named() {
        let hole = of(&[(0, 0, "g0", &[3, 4]), (1, 0, "u0", &[3, 4]), (0, 1, "g1", &[3, 4])]);
        assert_eq!(hole.shape().unwrap_err(), "expert 1 of 2 lacks the tensor that others store as u0");
        let other = of(&[(0, 0, "g0", &[3, 4]), (1, 0, "u0", &[3, 5])]);
        assert_eq!(other.shape().unwrap_err(), "u0 has the shape [3, 5], g0 has [3, 4]");
    }
}
