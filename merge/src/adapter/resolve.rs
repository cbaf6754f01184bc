//! From an adapter's tensors to edits of base tensors.
//!
//! The tensors that are present are authoritative; the configuration gives scales and says what should be there. A
//! tensor that no base tensor takes is an error that lists every such key.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use hashbrown::HashMap;

use super::edit::{Resolved, RowRange};
use super::key::{Key, Role, classify};
use super::module::{Module, Parts, locate};
use super::parameter::{self, Targeted};
use super::piece::Piece;
use super::replaced::{Replaced, Target};
use super::target::missing_targets;
use super::wrapper::Unwrap;
use super::{extra, heads, marked, piece, rows, unmatched};
use crate::base::names::Names;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::{AdapterInventory, Source};
use crate::spec::ExpertOrder;

/// Resolves one adapter. `order` is that of the experts in its tensors.
///
/// # Errors
/// If a tensor has no place, or the tensors contradict each other, the configuration or the base.
pub fn resolve(
    adapter: &AdapterInventory,
    order: ExpertOrder,
    base: &Names<'_>,
    effort: &mut Effort,
) -> Result<Resolved> {
    unmatched::refuse_empty(&adapter.tensors, adapter.config.kind.row())?;
    marked::refuse_several(&adapter.tensors, adapter.config.kind.row())?;
    let mut out = Resolved::default();
    let mut sorted = sort(adapter, base, &mut out)?;
    extra::lay(adapter, base, &mut sorted.replaced, &mut out, &mut sorted.unmatched)?;
    let Sorted { replaced, modules: by_name, shared, rows, mut unmatched } = sorted;
    let saved: HashSet<&str> = adapter.config.modules_to_save.iter().map(String::as_str).collect();
    for (tensor, r) in replaced {
        out.edits.push(r.edit(tensor, &saved)?);
    }
    rows::edits(&adapter.config, &rows, base, &mut out, &mut unmatched)?;
    let Found { modules, targets } = find(adapter, order, &by_name, &shared, base, &mut unmatched)?;
    if modules.is_empty() {
        let unused =
            |tensor: &Source| (tensor.name.clone(), "all modules share it, and the adapter has none".to_owned());
        out.ignored.extend(shared.all().map(unused));
    }
    adapter.config.kind.edits(&modules, base, effort, &mut out)?;
    adapter.config.kind.parameter_edits(&targets, effort, &mut out)?;
    heads::take(adapter, base, &mut unmatched, &mut out);
    if !unmatched.is_empty() {
        return Err(unmatched::refusal(unmatched, adapter, base));
    }
    missing_targets(&adapter.config, by_name.keys().map(|name| &**name), base, &mut out);
    Ok(out)
}

/// The tensors of an adapter by what they are.
#[derive(Default)]
struct Sorted<'a> {
    /// Replacements, by the base's tensor.
    replaced: BTreeMap<Target, Replaced<'a>>,
    /// The tensors of the kind, by module and by wrapper.
    modules: BTreeMap<Cow<'a, str>, BTreeMap<usize, Parts<'a>>>,
    /// Tensors of the kind that all modules share.
    shared: Parts<'a>,
    /// Token rows, each with its module.
    rows: Vec<(Cow<'a, str>, &'a Source)>,
    /// Keys that have no place in the base.
    unmatched: Vec<String>,
}

fn sort<'a>(adapter: &'a AdapterInventory, base: &Names<'_>, out: &mut Resolved) -> Result<Sorted<'a>> {
    let row = adapter.config.kind.row();
    let wraps_parameters = !adapter.config.kind.parameters().is_empty();
    let mut sorted = Sorted::default();
    let keys: Vec<Key<'a>> = adapter.tensors.iter().map(|tensor| classify(&tensor.name, row)).collect();
    let mut unwrap = Unwrap::of(keys.iter().map(|key| &*key.module), base);
    for (tensor, key) in adapter.tensors.iter().zip(keys) {
        let key = Key { module: unwrap.path(key.module), ..key };
        let other = match key.role {
            Role::Ignored(why) => {
                out.ignored.push((tensor.name.clone(), why.to_owned()));
                continue;
            }
            Role::Foreign(kind) => return Err(foreign(tensor, kind, row.name)),
            Role::TokenRows => {
                sorted.rows.push((key.module, tensor));
                continue;
            }
            Role::Shared(name) => sorted.shared.insert(name, tensor),
            Role::Part(part) => {
                let depth = if wraps_parameters { key.depth } else { 0 };
                sorted.modules.entry(key.module).or_default().entry(depth).or_default().insert(part, tensor)
            }
            Role::Plain(ref parameter) | Role::BaseLayer(ref parameter) | Role::Saved(ref parameter) => {
                if !replace(tensor, &key, parameter, base, &mut sorted.replaced)? {
                    sorted.unmatched.push(tensor.name.clone());
                }
                continue;
            }
        };
        if let Some(other) = other {
            return Err(twice(other, tensor));
        }
    }
    out.warnings.extend(unwrap.warning());
    Ok(sorted)
}

/// Two tensors of an adapter that are the same part.
fn twice(one: &Source, other: &Source) -> Error {
    let text = format!("tensors {} and {} play the same part for one module", one.name, other.name);
    Error::new(Kind::Conflict, text)
}

/// Lays a tensor that replaces a parameter onto what is stored of that. Whether the base has the parameter.
fn replace<'a>(
    tensor: &'a Source,
    key: &Key<'_>,
    parameter: &str,
    base: &Names<'_>,
    replaced: &mut BTreeMap<Target, Replaced<'a>>,
) -> Result<bool> {
    let mut lay = |target: Target, module: &str, source: Cow<'a, Source>| {
        let entry = replaced.entry(target).or_insert_with(|| Replaced::of(module.to_owned()));
        let place = match key.role {
            Role::Plain(_) => &mut entry.plain,
            Role::Saved(_) => &mut entry.saved,
            _ => &mut entry.base_layer,
        };
        place.replace(source).map_or(Ok(()), |other| Err(twice(&other, tensor)))
    };
    if let Some((name, module)) = locate(&key.module, parameter, matches!(key.role, Role::Saved(_)), base) {
        lay((name, None), &module, Cow::Borrowed(tensor))?;
        return Ok(true);
    }
    let Some((pieces, module)) = piece::of_saved(&key.module, parameter, base)? else { return Ok(false) };
    if let [Piece { tensor: name, rows, .. }] = pieces.as_slice() {
        lay((name.clone(), *rows), &module, Cow::Borrowed(tensor))?;
        return Ok(true);
    }
    let all: u64 = pieces.iter().map(|piece| piece.of.count).sum();
    for Piece { tensor: name, rows, of } in pieces {
        let part = tensor.rows(of.first, of.count).filter(|_| tensor.shape.first() == Some(&all)).ok_or_else(|| {
            let text = format!(
                "{} has the shape {:?}, and the base stores {all} rows of it in several tensors, {name} among them",
                tensor.name, tensor.shape
            );
            Error::new(Kind::ShapeMismatch, text)
        })?;
        lay((name, rows), &module, Cow::Owned(part))?;
    }
    Ok(true)
}

/// A tensor of another kind than the adapter's.
fn foreign(tensor: &Source, kind: &str, own: &str) -> Error {
    let merged = super::kind::KINDS.iter().any(|row| row.name == kind);
    let text = match merged {
        true => format!("tensor {} belongs to {kind}, and adapter_config.json is one of {own}", tensor.name),
        false => format!("tensor {} belongs to {kind}, which is not merged", tensor.name),
    };
    Error::new(Kind::Unsupported, text)
}

/// A module that a kind does not merge as the base stores it.
fn in_pieces(module: &Module<'_>, kind: &str) -> Error {
    let text = format!(
        "the weight of {} is stored as rows of {}, in a form that {kind} is not merged into",
        module.name, module.tensor
    );
    Error::new(Kind::Unsupported, text).hint("load the base with transformers, and save its state dict as it is")
}

/// What the tensors of an adapter's kind belong to.
struct Found<'a> {
    /// Modules.
    modules: Vec<Module<'a>>,
    /// Parameters that are targeted by themselves.
    targets: Vec<Targeted<'a>>,
}

/// The modules and parameters that the base has. The keys of the others are unmatched.
fn find<'a, 'b: 'a>(
    adapter: &AdapterInventory,
    order: ExpertOrder,
    by_name: &'a BTreeMap<Cow<'a, str>, BTreeMap<usize, Parts<'a>>>,
    shared: &'a Parts<'a>,
    base: &Names<'b>,
    unmatched: &mut Vec<String>,
) -> Result<Found<'a>> {
    let parameters = adapter.config.kind.parameters();
    let mut found = Found { modules: Vec::with_capacity(by_name.len()), targets: Vec::new() };
    for (name, wrappers) in by_name {
        let targets = parameter::targeted(parameters, name, wrappers, order, base)?;
        if !targets.is_empty() {
            found.targets.extend(targets);
            continue;
        }
        for parts in wrappers.values() {
            let Some(module) = Module::find(name, parts, shared, base)? else {
                unmatched.extend(parts.all().map(|t| t.name.clone()));
                continue;
            };
            if (!module.pieces.is_empty() || module.expert.is_some()) && !adapter.config.kind.takes_pieces() {
                return Err(in_pieces(&module, adapter.config.kind.row().name));
            }
            found.modules.push(module);
        }
    }
    expect_one_each(&found.modules)?;
    Ok(found)
}

/// Refuses two modules that are the same weight of the base.
fn expect_one_each(modules: &[Module<'_>]) -> Result<()> {
    let mut owners: HashMap<(&str, Option<RowRange>), &str> = HashMap::with_capacity(modules.len());
    for module in modules {
        if let Some(other) = owners.insert(module.place(), module.name) {
            return Err(Error::new(
                Kind::Conflict,
                format!("adapter modules {other} and {} are both {} of the base", module.name, module.tensor),
            ));
        }
    }
    Ok(())
}
