//! `--quantised requantise`: what an adapter changes stays quantised, and its values are encoded again.

use super::builder::Builder;
use super::slot::{Encoding, Slot};
use crate::base::quantisation::Quantisation;
use crate::base::scheme::recode::Recoder;
use crate::error::{Error, Kind, Result};
use crate::plan::report::Encoded;
use crate::recipe::statistics;
use crate::statistic::{self, Statistic, StatisticId};

impl Builder<'_> {
    /// Gives every quantised parameter that is changed its encoding, with the statistics that it needs.
    ///
    /// # Errors
    /// `unsupported`, naming the first parameter that cannot be encoded, with the reason, and how many others cannot.
    pub(super) fn requantise(&mut self) -> Result<()> {
        let said = Quantisation::of(&self.inventory.base.config);
        let (mut refused, mut first) = (0, None);
        for at in 0..self.slots.all.len() {
            let slot = &mut self.slots.all[at];
            if !slot.touched() || slot.coded.is_none() && slot.stored.tensors.len() < 2 {
                continue;
            }
            match encode(slot, &said, &mut self.statistics) {
                Ok(()) => self.report.requantised.push(encoded(slot)),
                Err(why) => {
                    refused += 1;
                    first.get_or_insert_with(|| (slot.name.clone(), slot.stored.scheme.name(), why));
                }
            }
        }
        let Some((name, scheme, why)) = first else { return Ok(()) };
        let others =
            if refused > 1 { format!(" ({} other weights cannot either)", refused - 1) } else { String::new() };
        let text = format!(
            "the adapter changes {name}, which is stored as {scheme} and cannot be encoded again: {why}{others}"
        );
        Err(Error::new(Kind::Unsupported, text)
            .hint("--quantised keep writes what adapters change as floats, --quantised dequantise the whole model"))
    }
}

/// Gives a parameter, or those of its portions that are changed, an encoding. The error is the reason why there is none.
fn encode(slot: &mut Slot, said: &Quantisation, all: &mut Vec<Statistic>) -> std::result::Result<(), String> {
    if slot.coded.is_none() {
        return Err("the base does not store it under this name".to_owned());
    }
    if slot.portions.is_empty() {
        slot.encoding = Some(encoding(slot, said, all)?);
        return Ok(());
    }
    for portion in slot.portions.values_mut() {
        // Portions that nothing changes are copied by themselves, so they must be stored apart too.
        portion.stored.rule(said)?;
        if portion.touched() {
            portion.encoding = Some(encoding(portion, said, all)?);
        }
    }
    Ok(())
}

fn encoding(slot: &Slot, said: &Quantisation, all: &mut Vec<Statistic>) -> std::result::Result<Encoding, String> {
    let rule = match slot.start_adapter {
        Some(adapter) => Err(format!("adapter {} replaces it, and no delta is added to its codes", adapter + 1)),
        None => slot.stored.rule(said),
    }?;
    let start = slot.stored.start()?;
    let one_scale = Recoder::of(&start, rule)?.has_one_scale();
    let mut add = |needs: Vec<StatisticId>, kind| {
        let id = StatisticId(all.len() as u32);
        let (tensor, steps) = (slot.name.clone(), slot.steps.clone());
        all.push(Statistic { tensor, start: start.clone(), steps, needs, kind });
        id
    };
    let needs: Vec<StatisticId> = statistics(&slot.steps).collect();
    let range = one_scale.then(|| add(needs.clone(), statistic::Kind::Range));
    add(needs.into_iter().chain(range).collect(), statistic::Kind::Survival { rule, range });
    Ok(Encoding { rule, range })
}

/// What the plan says of a parameter that is encoded again.
fn encoded(slot: &Slot) -> Encoded {
    Encoded { name: slot.name.clone(), scheme: slot.stored.scheme.name().to_owned(), bytes: slot.coded.unwrap_or(0) }
}
