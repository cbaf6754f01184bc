//! Names that are one parameter, while adapters are laid onto the base.

use std::collections::{BTreeMap, HashSet};

use hashbrown::HashMap;

use super::builder::Builder;
use super::slot::Slot;
use crate::adapter::edit::{Edit, Resolved};
use crate::adapter::tied::{self, Shared};
use crate::base::tied::TiedSet;
use crate::bounded;
use crate::error::Result;

impl Builder<'_> {
    /// The edits that are made, once it is known what becomes of each set that they change.
    pub(super) fn share(&mut self, number: u16, resolved: Resolved, ensure: bool) -> Result<Vec<Edit>> {
        let (mut edits, concerned) = self.sorted(resolved.edits);
        let n = number + 1;
        let (mut summed, mut shared_by_parts) = (Vec::new(), Vec::new());
        for (at, own) in concerned {
            if let Some(note) = self.ties.settle(at)? {
                self.report.note(note);
            }
            let set = &self.ties.sets[at];
            let names: HashSet<&str> = set.names.iter().filter(|_| set.is_shared()).map(String::as_str).collect();
            let (own, apart): (Vec<Edit>, Vec<Edit>) =
                own.into_iter().partition(|edit| names.contains(edit.tensor.as_str()));
            edits.extend(apart);
            if own.is_empty() {
                continue;
            }
            let changed = own.iter().map(|edit| edit.tensor.as_str()).collect::<HashSet<_>>().len();
            match tied::share(set, own, ensure)? {
                Shared::Tied { edits: shared, equals } => {
                    self.equals.extend(equals);
                    if set.repeated.is_empty() {
                        let others: Vec<&str> = set.others().collect();
                        let (leader, others) = (&set.leader, others.join(" and "));
                        let note = format!("the model is tied, {leader} serves as {others} too and stays tied");
                        self.report.note(format!("adapter {n}: {note}"));
                    } else {
                        let list = if changed > 1 { &mut summed } else { &mut shared_by_parts };
                        list.push(set.leader.clone());
                    }
                    edits.extend(shared);
                }
                Shared::Untied(names, parted) => {
                    let note = self.part(at, &names)?;
                    self.report.note(format!("adapter {n}: changes {note}"));
                    edits.extend(parted);
                }
            }
        }
        if !shared_by_parts.is_empty() {
            let names = bounded::list(&shared_by_parts);
            self.report.note(format!(
                "adapter {n}: several parts of the model share what it changes, and all of them change: {names}"
            ));
        }
        if !summed.is_empty() {
            let names = bounded::list(&summed);
            self.report.warn(format!("adapter {n}: several parts of the model share a tensor, and the adapter changes it once for each part. All changes are made to it, as PEFT's merge does; the model that was trained kept them apart: {names}"));
        }
        Ok(edits)
    }

    /// The edits of tensors that no set concerns, and those of each set that has some.
    fn sorted(&self, edits: Vec<Edit>) -> (Vec<Edit>, BTreeMap<usize, Vec<Edit>>) {
        let sets = self.ties.sets.iter().enumerate();
        let set_of: HashMap<&str, usize> = sets.flat_map(|(at, set)| set.all().map(move |name| (name, at))).collect();
        let mut concerned = BTreeMap::<usize, Vec<Edit>>::new();
        let free = edits.into_iter().filter_map(|edit| match set_of.get(edit.tensor.as_str()) {
            Some(at) => {
                concerned.entry(*at).or_default().push(edit);
                None
            }
            None => Some(edit),
        });
        (free.collect(), concerned)
    }

    /// Gives the names of a set tensors of their own, as far as they need them. What is said of it.
    fn part(&mut self, at: usize, own: &[String]) -> Result<String> {
        let set = &mut self.ties.sets[at];
        let (leader, by_config) = (set.leader.clone(), set.is_by_config());
        let what =
            if set.names.len() == 2 && by_config { "one side of a tied embedding" } else { "part of what is tied" };
        let written = set.part(own, |name| self.slots.has(name));
        for name in written.iter().filter(|name| **name != leader) {
            self.slots.copy(&leader, name)?;
        }
        self.ties.untied |= by_config;
        let says = if by_config { ", and tie_word_embeddings becomes false" } else { "" };
        let all = if written.len() == 2 { "both" } else { "all" };
        Ok(format!("{what}: {} are {all} written{says}", written.join(" and ")))
    }

    /// Writes what the other names of each set are.
    pub(super) fn finish_ties(&mut self) -> Result<()> {
        let untied = self.ties.untied && !self.ties.untied_by_request;
        for TiedSet { names, leader, always, .. } in self.ties.sets.iter().filter(|set| set.is_shared()) {
            let touched = self.slots.get(leader).is_some_and(Slot::touched);
            for name in names.iter().filter(|name| *name != leader) {
                // Where config.json says that nothing is tied, each name needs a tensor.
                if if self.slots.has(name) { touched } else { untied && !always } {
                    self.slots.copy(leader, name)?;
                }
            }
        }
        Ok(())
    }
}
