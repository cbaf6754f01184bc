//! Tensors of one kind together.

use std::collections::BTreeMap;

use serde::Serialize;

use super::change::Change;
use super::sums::Sums;
use crate::sample::kind;

/// The tensors of a kind: names that differ in numbers only.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The name, with `*` for numbers.
    pub kind: String,
    /// How many tensors it has.
    pub tensors: u64,
    /// How many of them differ.
    pub differ: u64,
    /// Elements that were compared.
    pub elements: u64,
    /// Elements that are others.
    pub changed: u64,
    /// The norm of all their changes over that of all their values before.
    pub relative: Option<f64>,
    /// The largest difference.
    pub largest: f64,
    /// The tensor with the largest relative norm, and that.
    pub worst: Option<(String, f64)>,
}

/// The groups, in the order in which they first occur.
pub fn groups(changes: &[Change]) -> Vec<Group> {
    let mut order: Vec<String> = Vec::new();
    let mut all: BTreeMap<String, (Group, Sums)> = BTreeMap::new();
    for change in changes {
        let kind = kind(&change.tensor);
        let (group, sums) = all.entry(kind.clone()).or_insert_with(|| {
            order.push(kind.clone());
            (Group::of(kind), Sums::default())
        });
        group.tensors += 1;
        group.differ += u64::from(!change.same());
        group.elements += change.elements;
        group.changed += change.changed;
        sums.before += change.sums.before;
        sums.delta += change.sums.delta;
        group.largest = group.largest.max(change.sums.largest.0);
        let relative = change.relative.unwrap_or(0.0);
        if relative > group.worst.as_ref().map_or(0.0, |(_, worst)| *worst) {
            group.worst = Some((change.tensor.clone(), relative));
        }
    }
    let finish = |kind: String| {
        let (group, sums) = all.remove(&kind)?;
        Some(Group { relative: sums.relative(), ..group })
    };
    order.into_iter().filter_map(finish).collect()
}

impl Group {
    fn of(kind: String) -> Group {
        Group { kind, tensors: 0, differ: 0, elements: 0, changed: 0, relative: None, largest: 0.0, worst: None }
    }
}

#[cfg(test)]
mod tests {
    use super::super::change::Compared;
    use super::*;

    #[test]
    fn a_group_has_the_norm_of_all_its_tensors_and_names_the_worst() {
        let change = |name: &str, before: f32, after: f32| {
            let mut sums = Sums::default();
            sums.add(0, &[before], &[after]);
            let shape = || Some(vec![1]);
            Change::not(name, [None, None], [shape(), shape()]).with(Compared::Values, sums)
        };
        let found = groups(&[change("l.0.q", 3.0, 3.0), change("norm", 1.0, 1.0), change("l.1.q", 4.0, 5.0)]);
        assert_eq!(found.iter().map(|g| g.kind.as_str()).collect::<Vec<_>>(), ["l.*.q", "norm"]);
        let Group { tensors, differ, relative, largest, worst, .. } = &found[0];
        assert_eq!((*tensors, *differ, *relative, *largest), (2, 1, Some(0.2), 1.0));
        assert_eq!(worst, &Some(("l.1.q".to_owned(), 0.25)));
    }
}
