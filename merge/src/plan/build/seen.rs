//! `--base-as`: the weights of the base that stood quantised beside the adapters in training.

use std::collections::BTreeSet;

use super::quantised::Coded;
use super::slots::Slots;
use crate::base::conv1d::Conv1d;
use crate::base::linears::{Fate, Linears};
use crate::base::modules::ModelClass;
use crate::base::names::Names;
use crate::base::scheme::seen::Code;
use crate::base::scheme::stored::{Start, Stored};
use crate::error::{Error, Kind, Result};
use crate::inventory::{BaseInventory, Source};
use crate::plan::report::Report;
use crate::spec::{BaseAs, MergeSpec};
use crate::statistic::scales::Scales;
use crate::statistic::{self, Statistic, StatisticId};
use crate::tensor::float::Float;
use crate::units;

/// How many names an error lists.
const LISTED: usize = 8;

/// Replaces the weights that were quantised by what the adapters saw of them.
///
/// # Errors
/// `conflict` if the base is quantised itself, `unsupported` if it cannot be told whether a matrix was quantised, `usage` if a module that
/// was named does not exist.
pub(super) fn replace(
    spec: &MergeSpec,
    base: &BaseInventory,
    class: &ModelClass,
    coded: &Coded,
    slots: &mut Slots,
    statistics: &mut Vec<Statistic>,
    report: &mut Report,
) -> Result<()> {
    let Some(base_as) = &spec.base_as else { return Ok(()) };
    if let Some(stored) = coded.named() {
        let text = format!("--base-as {base_as}, and the base is quantised itself: {stored}");
        return Err(Error::new(Kind::Conflict, text)
            .hint("leave --base-as out if the adapter was trained on this base, else merge into the unquantised one"));
    }
    let conv1d = Conv1d::of(&base.config);
    let tensors = slots.all.iter().map(|slot| (slot.name.as_str(), slot.dims.as_slice()));
    let names = Names::new(tensors, std::iter::empty(), class);
    let chosen =
        Chosen::of(base_as, &names, Linears::of(&base.config), slots.all.iter().map(|slot| &slot.stored.tensors))?;
    let mut found = Vec::new();
    for (at, slot) in slots.all.iter().enumerate() {
        let [tensor] = slot.stored.tensors.as_slice() else { continue };
        if chosen.is(&slot.name) {
            let transposed = slot.name.strip_suffix(".weight").is_some_and(|module| conv1d.is(module));
            expect_own_blocks(base_as, &names, tensor, transposed)?;
            let from = base_as.from.or(Float::of(tensor.dtype)).unwrap_or(Float::F32);
            let scales = Scales { block: base_as.block, from, down: transposed };
            let double = base_as.double.then_some(StatisticId(statistics.len() as u32));
            let seen = Stored::seen(tensor, base_as.code, scales, double);
            let refused = |why: String| Error::new(Kind::Unsupported, format!("--base-as {base_as}: {why}"));
            found.push((at, seen.map_err(refused)?));
            if base_as.double {
                statistics.push(sum_of(tensor, scales).map_err(refused)?);
            }
        }
    }
    if found.is_empty() {
        return Err(Error::new(
            Kind::Usage,
            format!("--base-as {base_as} finds no weight that bitsandbytes would quantise"),
        ));
    }
    drop(names);
    let mut bytes = 0;
    for (at, stored) in found {
        let slot = &mut slots.all[at];
        bytes += slot.stored.tensors[0].bytes();
        report.seen.push(slot.name.clone());
        slot.stored = stored;
    }
    report.note(format!(
        "--base-as {base_as}: {} weights of {} become what a layer of bitsandbytes made of them, whether an adapter changes them or not",
        report.seen.len(),
        units::bytes(bytes),
    ));
    report.note(
        "--base-as: adapters do not say how their base was quantised, so nothing was checked against them".to_owned(),
    );
    Ok(())
}

/// The statistic of all scales of a weight.
fn sum_of(tensor: &Source, scales: Scales) -> std::result::Result<Statistic, String> {
    let start = Start::plain(tensor.clone())?;
    let (rows, cols) = start.matrix();
    if !scales.divide(rows, cols) {
        let (name, shape, block) = (&tensor.name, &tensor.shape, scales.block);
        return Err(format!("blocks of {block} values of {name} of shape {shape:?} cross its columns or runs of rows"));
    }
    let (tensor, kind) = (tensor.name.clone(), statistic::Kind::Scales(scales));
    Ok(Statistic { tensor, start, steps: Vec::new(), needs: Vec::new(), kind })
}

/// The weights that were quantised, by their names.
struct Chosen(BTreeSet<String>);

impl Chosen {
    fn of<'a>(
        base_as: &BaseAs,
        names: &Names<'_>,
        linears: Option<Linears>,
        stored: impl Iterator<Item = &'a Vec<Source>>,
    ) -> Result<Chosen> {
        let (mut chosen, mut untold) = (BTreeSet::new(), Vec::new());
        let mut unused: Vec<&String> = base_as.skip.iter().chain(&base_as.with).collect();
        for tensor in stored.flatten().filter(|tensor| tensor.shape.len() == 2 && Float::of(tensor.dtype).is_some()) {
            let module = names.module(&tensor.name);
            let mut named = |list: &[String]| {
                let is = |one: &&String| covers(one, &tensor.name) || covers(one, &module);
                let found: Vec<&String> = list.iter().filter(is).collect();
                unused.retain(|one| !found.contains(one));
                !found.is_empty()
            };
            let (skipped, taken) = (named(&base_as.skip), named(&base_as.with));
            let fate = || fate(names, linears.as_ref()?, &tensor.name, &module);
            match (skipped, taken) {
                (true, _) => {}
                (false, true) => {
                    chosen.insert(tensor.name.clone());
                }
                (false, false) => match fate() {
                    Some(Fate::Linear) => {
                        chosen.insert(tensor.name.clone());
                    }
                    Some(Fate::Kept) => {}
                    Some(Fate::Either) | None => untold.push(tensor.name.as_str()),
                },
            }
        }
        if let Some(one) = unused.first() {
            let text = format!("--base-as {base_as} names {one}, and the base has no matrix of such a module");
            return Err(Error::new(Kind::Usage, text));
        }
        if !untold.is_empty() {
            let (count, first) = (untold.len(), untold[..untold.len().min(LISTED)].join(", "));
            let known = if linears.is_some() { "this class" } else { "a class that is not known" };
            let text = format!(
                "--base-as {base_as}: of {count} matrices of {known} it cannot be told whether they were quantised: {first}"
            );
            return Err(Error::new(Kind::Unsupported, text)
                .hint("skip=MODULE says that a module was not quantised, with=MODULE that it was"));
        }
        Ok(Chosen(chosen))
    }

    fn is(&self, name: &str) -> bool {
        self.0.contains(name)
    }
}

/// Whether a module that was named has a parameter of this name: it is the beginning of the path, or the end of the module's.
fn covers(module: &str, parameter: &str) -> bool {
    let path = parameter.rsplit_once('.').map_or(parameter, |(path, _)| path);
    let (path, named) = (format!(".{path}."), format!(".{module}."));
    path.contains(&named)
}

/// What became of a stored matrix. Experts that transformers stacks are a parameter of three dimensions, which it does not quantise; earlier
/// releases had a linear layer for each and did.
fn fate(names: &Names<'_>, linears: &Linears, stored: &str, module: &str) -> Option<Fate> {
    let fates = |parameters: Vec<String>| {
        let mut fates = parameters.iter().map(|name| linears.fate(name));
        let first = fates.next()??;
        Some(if fates.all(|fate| fate == Some(first)) { first } else { Fate::Either })
    };
    match (names.member(stored), names.parts_of(stored)) {
        (Some(member), _) if member.expert.is_some() => Some(Fate::Either),
        (Some(member), _) => fates(member.parameters),
        (_, Some((_, parts))) => fates(parts),
        _ => linears.fate(module),
    }
}

/// Refuses a tensor that the model splits or joins with others, where a block would cross the border.
fn expect_own_blocks(base_as: &BaseAs, names: &Names<'_>, tensor: &Source, transposed: bool) -> Result<()> {
    let apart = names.member(&tensor.name).is_none_or(|member| member.expert.is_some())
        && names.parts_of(&tensor.name).is_none();
    let whole = !transposed && tensor.shape.last().is_some_and(|cols| cols % base_as.block == 0);
    if apart || whole || base_as.code == Code::Int8 {
        return Ok(());
    }
    let (name, shape, block) = (&tensor.name, &tensor.shape, base_as.block);
    Err(Error::new(
        Kind::Unsupported,
        format!(
            "--base-as {base_as}: the model holds {name} of shape {shape:?} in several parts or with others, and blocks of {block} values cross its rows"
        ),
    ))
}
