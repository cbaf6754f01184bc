//! What the values of stored copies say of a set.

use std::collections::{HashMap, HashSet};

use super::set::TiedSet;
use super::storage;
use crate::inventory::{BaseInventory, Source};

/// The tensors of a base that are in a set, and what is known of their values.
pub(super) struct Values<'a> {
    tensors: HashMap<&'a str, &'a Source>,
    compared: HashMap<(&'a str, &'a str), bool>,
}

impl<'a> Values<'a> {
    pub(super) fn of(base: &'a BaseInventory, sets: &[TiedSet]) -> Self {
        let named: HashSet<&str> = sets.iter().flat_map(|set| set.all().chain([set.leader.as_str()])).collect();
        let all = base.shards.iter().flat_map(|s| &s.tensors).map(|t| (t.name.as_str(), t));
        let tensors = all.filter(|(name, _)| named.contains(name)).collect();
        let compared = base.compared.iter().map(|c| ((c.left.as_str(), c.right.as_str()), c.same)).collect();
        Values { tensors, compared }
    }

    /// Whether two stored tensors hold the same; `None` if nobody compared them.
    fn same(&self, left: &str, right: &str) -> Option<bool> {
        let is_one = || storage::is_one(self.tensors.get(left)?, self.tensors.get(right)?).then_some(true);
        is_one().or_else(|| self.compared.get(&(left, right)).copied())
    }

    /// Takes the names whose values differ out of a set, and notes one that nobody compared.
    pub(super) fn judge(&self, set: &mut TiedSet) {
        for name in std::mem::take(&mut set.names) {
            let stored = name != set.leader && self.tensors.contains_key(name.as_str());
            match self.same(&set.leader, &name) {
                Some(false) if stored => {
                    set.differing.push(name);
                    continue;
                }
                None if stored => set.uncompared = Some(name.clone()),
                _ => {}
            }
            set.names.push(name);
        }
    }

    /// The tensors that have to be compared for a set: the leader and each other stored name that is not the same bytes.
    pub(super) fn copies(&self, set: &TiedSet) -> Vec<(&'a Source, &'a Source)> {
        let Some(leader) = self.tensors.get(set.leader.as_str()) else { return Vec::new() };
        let stored = set.others().filter_map(|name| self.tensors.get(name));
        stored.filter(|tensor| !storage::is_one(leader, tensor)).map(|tensor| (*leader, *tensor)).collect()
    }
}
