//! Parameters that leave the quantised set: those that an adapter changes, and their neighbours in the modules of engines.

use std::borrow::Borrow;
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::builder::Builder;
use super::quantised::{none_stays, not_decoded};
use super::slot::Slot;
use super::undecodable;
use crate::base::names::Names;
use crate::base::quantisation::exceptions::{Exceptions, Method, Reach, method};
use crate::base::quantisation::groups::{Groups, experts_of};
use crate::base::quantisation::{self, Fate, Quantisation};
use crate::error::{Error, Kind, Result};
use crate::plan::report::Left;
use crate::spec::Quantised;

impl Builder<'_> {
    /// Lets what is changed leave the quantised set, with its neighbours, and says what becomes of the configuration.
    ///
    /// # Errors
    /// `unsupported` if a neighbour cannot be dequantised, or it is not known how the method names exceptions; as
    /// [`Builder::requantise`].
    pub(super) fn leave(&mut self) -> Result<Fate> {
        if self.spec.quantised == Quantised::Dequantise {
            if self.quantised {
                undecodable::expect_plain_activations(&self.inventory.base)?;
            }
            return Ok(Fate::Gone);
        }
        if self.spec.quantised == Quantised::Requantise {
            return self.requantise().map(|()| Fate::Stays);
        }
        let changed: Vec<usize> = self.coded().filter(|at| self.slots.all[*at].touched()).collect();
        let Some(first) = changed.first().map(|at| self.slots.all[*at].name.clone()) else { return Ok(Fate::Stays) };
        let known = self.method(&first)?;
        let closed = Modules::of(self.coded().map(|at| (at, self.slots.all[at].name.as_str()))).closed(
            &changed,
            known,
            &Groups::of(&self.inventory.base.config),
        );
        for (at, with) in &closed {
            let with = with.map(|with| self.slots.all[with].name.clone());
            let slot = &mut self.slots.all[*at];
            if let Some(with) = &with {
                slot.stored.start().map_err(|why| {
                    let why = format!("{why}; engines fuse it with {with}, which an adapter changes, so it cannot stay quantised by itself");
                    not_decoded(slot, &why)
                })?;
                slot.dequantised = true;
            }
            self.report.left.push(left(slot, with));
        }
        let staying: Vec<usize> = self.coded().filter(|at| !closed.contains_key(at)).collect();
        let (Some(method), false) = (known, staying.is_empty() && !self.unknown_codes) else {
            if known.is_none() {
                return Ok(Fate::Stays);
            }
            undecodable::expect_plain_activations(&self.inventory.base)?;
            none_stays(&mut self.report);
            return Ok(Fate::Gone);
        };
        if let Some(remark) = method.remark {
            self.report.note(remark.to_owned());
        }
        Ok(Fate::Excepts(method, self.exceptions(&closed.into_keys().collect::<Vec<_>>(), &staying)))
    }

    /// The parameters that the base stores quantised.
    fn coded(&self) -> impl Iterator<Item = usize> {
        self.slots.all.iter().enumerate().filter(|(_, slot)| slot.coded.is_some()).map(|(at, _)| at)
    }

    /// How the method of the base names exceptions; `None` if nothing says that it is quantised.
    fn method(&mut self, changed: &str) -> Result<Option<&'static Method>> {
        let base = &self.inventory.base;
        let of_file = || base.repeated.iter().find_map(|(name, _)| quantisation::method_of_file(name));
        let of_config = Quantisation::of(&base.config).method;
        let Some(name) = of_config.or_else(|| of_file().map(str::to_owned)) else {
            self.report.warn(format!(
                "config.json has no quantization_config that could say that {changed} is not quantised any more"
            ));
            return Ok(None);
        };
        method(&name).map(Some).ok_or_else(|| {
            let text = format!("the adapter changes {changed}, and the base is quantised by {name}, of which it is not known how it lists modules that are not quantised");
            Error::new(Kind::Unsupported, text).hint("--quantised dequantise writes the whole model as floats, merged")
        })
    }

    /// The exceptions by all names that a loader may know.
    fn exceptions(&self, leaving: &[usize], staying: &[usize]) -> Exceptions {
        let tensors = self.slots.all.iter().map(|slot| (slot.name.as_str(), slot.dims.as_slice()));
        let names = Names::new(tensors, self.ties.names(), &self.class);
        let groups = Groups::of(&self.inventory.base.config);
        let name = |at: &usize| self.slots.all[*at].name.as_str();
        let (mut modules, mut fused) = (BTreeSet::new(), BTreeSet::new());
        for parameter in leaving.iter().map(name) {
            let stacked = names.member(parameter).into_iter().flat_map(|member| member.parameters);
            for known in [parameter.to_owned(), names.module(parameter)].into_iter().chain(stacked) {
                let module = module_of(&known).to_owned();
                fused.extend(groups.with(&module).into_iter().map(|group| group.fused));
                modules.insert(module);
            }
        }
        let output = self.ties.sides.map_or("lm_head.weight", |(_, output)| output);
        let tied = self.ties.sets.iter().flat_map(|set| set.all());
        // The head of another task stands at the top, too.
        let plain = self.slots.all.iter().filter(|slot| slot.coded.is_none() && slot.dims.len() == 2);
        let heads = plain.map(|slot| slot.name.as_str()).filter(|name| !module_of(name).contains('.'));
        let named = std::iter::once(output).chain(tied).chain(heads);
        let defaults: BTreeSet<String> = named.map(|name| module_of(name).to_owned()).collect();
        Exceptions {
            modules: modules.into_iter().collect(),
            fused: fused.into_iter().collect(),
            defaults: defaults.into_iter().collect(),
            staying: staying.iter().map(|at| module_of(name(at)).to_owned()).collect(),
        }
    }
}

/// The module that a parameter belongs to.
fn module_of(parameter: &str) -> &str {
    parameter.rsplit_once('.').map_or(parameter, |(module, _)| module)
}

/// What the plan says of a parameter that leaves.
fn left(slot: &Slot, with: Option<String>) -> Left {
    let written = slot.dims.iter().product::<u64>() * slot.dtype.bitsize() as u64 / 8;
    Left { name: slot.name.clone(), with, stored: slot.coded.unwrap_or(0), written }
}

/// Quantised parameters by their modules.
struct Modules<'a> {
    by_name: BTreeMap<&'a str, Vec<usize>>,
    /// By their names from the end on.
    reversed: BTreeMap<String, Vec<usize>>,
    names: BTreeMap<usize, &'a str>,
}

impl<'a> Modules<'a> {
    fn of(parameters: impl Iterator<Item = (usize, &'a str)>) -> Modules<'a> {
        let mut all = Modules { by_name: BTreeMap::new(), reversed: BTreeMap::new(), names: BTreeMap::new() };
        for (at, name) in parameters {
            let module = module_of(name);
            all.by_name.entry(module).or_default().push(at);
            all.reversed.entry(module.chars().rev().collect()).or_default().push(at);
            all.names.insert(at, module);
        }
        all
    }

    /// What leaves with the changed parameters: each with the one that takes it along, `None` for those that are changed.
    fn closed(&self, changed: &[usize], method: Option<&Method>, groups: &Groups) -> BTreeMap<usize, Option<usize>> {
        let mut leaving: BTreeMap<usize, Option<usize>> = changed.iter().map(|at| (*at, None)).collect();
        let mut next = changed.to_vec();
        let mut experts = BTreeSet::new();
        if method.is_some_and(|method| method.whole) {
            let all = self.names.keys().map(|at| (*at, changed.first().copied().filter(|_| !leaving.contains_key(at))));
            return all.collect();
        }
        while let Some(at) = next.pop() {
            let module = self.names[&at];
            let mut along = self.by_name[module].clone();
            for member in groups.with(module).iter().flat_map(|group| &group.members) {
                along.extend(self.by_name.get(member.as_str()).into_iter().flatten());
            }
            if let Some(path) = experts_of(module).filter(|path| experts.insert(*path)) {
                along.extend(below(&self.by_name, path, true));
            }
            if let Some(reach) = method.map(|method| method.reach).filter(|reach| *reach != Reach::One) {
                along.extend(below(&self.by_name, module, reach == Reach::Modules));
                let reversed: String = module.chars().rev().collect();
                along.extend(below(&self.reversed, &reversed, false));
            }
            for other in along {
                if let Entry::Vacant(vacant) = leaving.entry(other) {
                    vacant.insert(Some(at));
                    next.push(other);
                }
            }
        }
        leaving
    }
}

/// The parameters whose names begin with a path, which ends with a part of them where that is asked for.
fn below<K: Ord + Borrow<str>>(names: &BTreeMap<K, Vec<usize>>, path: &str, whole: bool) -> Vec<usize> {
    let begins = names
        .range::<str, _>((Bound::Included(path), Bound::Unbounded))
        .take_while(|(name, _)| (*name).borrow().starts_with(path));
    let fits = |name: &str| !whole || name.len() == path.len() || name[path.len()..].starts_with('.');
    begins.filter(|(name, _)| fits((*name).borrow())).flat_map(|(_, all)| all.iter().copied()).collect()
}
