//! Parameters that a checkpoint stores in several tensors: experts one by one, or parts of one weight.

use std::collections::BTreeMap;

/// The stored tensors of one parameter [experts, rows, columns], or [rows, columns] where there are no experts.
#[derive(Debug, Clone)]
pub struct OneByOne<'a> {
    /// For each part of the rows, the tensors by expert.
    parts: Vec<BTreeMap<u64, (&'a str, &'a [u64])>>,
    has_experts: bool,
    /// Whether the tensor of each part is [experts, rows, columns] itself.
    pub across: bool,
}

impl<'a> OneByOne<'a> {
    /// No tensor yet, of so many parts.
    pub(super) fn new(parts: usize, across: bool) -> OneByOne<'a> {
        OneByOne { parts: vec![BTreeMap::new(); parts], has_experts: false, across }
    }

    /// The experts that parameter `number` has of those that `of` parameters share.
    pub(super) fn share(&self, number: usize, of: usize) -> OneByOne<'a> {
        let experts = self.parts.iter().filter_map(|part| part.keys().last()).max().map_or(0, |last| last + 1);
        let each = experts.div_ceil(of as u64);
        let first = number as u64 * each;
        let own = |part: &BTreeMap<u64, (&'a str, &'a [u64])>| {
            part.range(first..first + each).map(|(expert, tensor)| (expert - first, *tensor)).collect()
        };
        OneByOne { parts: self.parts.iter().map(own).collect(), ..self.clone() }
    }

    /// Adds a tensor.
    pub(super) fn insert(&mut self, part: usize, expert: Option<u64>, name: &'a str, shape: &'a [u64]) {
        self.parts[part].insert(expert.unwrap_or(0), (name, shape));
        self.has_experts |= expert.is_some();
    }

    /// The tensors of a parameter without experts with the shape of each, in the order of their rows; `None` if there are experts,
    /// or a part is missing.
    pub fn joined(&self) -> Option<Vec<(&'a str, &'a [u64])>> {
        if self.has_experts || self.across {
            return None;
        }
        self.parts.iter().map(|part| part.get(&0).copied()).collect()
    }

    /// The shape of the parameter.
    ///
    /// # Errors
    /// What is missing, or differs from the others.
    pub fn shape(&self) -> Result<[u64; 3], String> {
        let experts = self.parts.iter().filter_map(|part| part.keys().last()).max().map_or(0, |last| last + 1);
        if self.across {
            return self.shape_across();
        }
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

    fn shape_across(&self) -> Result<[u64; 3], String> {
        let mut shape: Option<[u64; 3]> = None;
        for part in &self.parts {
            let Some((name, dims)) = part.get(&0) else { return Err("a part of it is missing".to_owned()) };
            let [experts, rows, cols] = **dims else {
                return Err(format!("{name} has the shape {dims:?}, expected one for all experts"));
            };
            let before = shape.map_or(0, |[_, rows, _]| rows);
            if shape.is_some_and(|[e, _, c]| (e, c) != (experts, cols)) || !before.is_multiple_of(rows.max(1)) {
                return Err(format!("{name} has the shape {dims:?}, which differs from that of another part"));
            }
            shape = Some([experts, before + rows, cols]);
        }
        shape.ok_or_else(|| "no experts".to_owned())
    }

    /// How many parts the rows of an expert have.
    pub fn parts(&self) -> u64 {
        self.parts.len() as u64
    }

    /// The tensor that stores a part of an expert.
    pub fn tensor(&self, part: u64, expert: u64) -> Option<&'a str> {
        let number = if self.across { 0 } else { expert };
        self.parts.get(part as usize)?.get(&number).map(|(name, _)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tensors: &[(usize, u64, &'static str, &'static [u64])]) -> OneByOne<'static> {
        let mut stack = OneByOne::new(2, false);
        tensors.iter().for_each(|(part, expert, name, shape)| stack.insert(*part, Some(*expert), name, shape));
        stack
    }

    #[test]
    fn parts_lie_one_after_another_in_an_expert() {
        let all = of(&[(0, 0, "g0", &[3, 4]), (1, 0, "u0", &[3, 4]), (0, 1, "g1", &[3, 4]), (1, 1, "u1", &[3, 4])]);
        assert_eq!(all.shape(), Ok([2, 6, 4]));
        assert_eq!((all.tensor(1, 0), all.tensor(0, 2)), (Some("u0"), None));
    }

    #[test]
    fn parameters_share_the_experts() {
        let all: Vec<(usize, u64, &str, &[u64])> = vec![
            (0, 0, "0", &[3, 4]),
            (0, 1, "1", &[3, 4]),
            (0, 2, "2", &[3, 4]),
            (1, 0, "a", &[3, 4]),
            (1, 1, "b", &[3, 4]),
            (1, 2, "c", &[3, 4]),
        ];
        let (first, second) = (of(&all).share(0, 2), of(&all).share(1, 2));
        assert_eq!((first.shape(), second.shape()), (Ok([2, 6, 4]), Ok([1, 6, 4])));
        assert_eq!((first.tensor(1, 1), second.tensor(1, 0)), (Some("b"), Some("c")));
    }

    #[test]
    fn the_tensor_of_a_part_may_hold_all_experts() {
        let mut across = OneByOne::new(2, true);
        across.insert(0, None, "gate", &[2, 3, 4]);
        across.insert(1, None, "up", &[2, 3, 4]);
        assert_eq!(across.shape(), Ok([2, 6, 4]));
        assert_eq!((across.tensor(1, 1), across.joined().is_none()), (Some("up"), true));
    }

    #[test]
    fn a_missing_expert_and_a_shape_of_its_own_are_named() {
        let hole = of(&[(0, 0, "g0", &[3, 4]), (1, 0, "u0", &[3, 4]), (0, 1, "g1", &[3, 4])]);
        assert_eq!(hole.shape().unwrap_err(), "expert 1 of 2 lacks the tensor that others store as u0");
        let other = of(&[(0, 0, "g0", &[3, 4]), (1, 0, "u0", &[3, 5])]);
        assert_eq!(other.shape().unwrap_err(), "u0 has the shape [3, 5], g0 has [3, 4]");
    }
}
