//! What can be refused without reading anything.

use super::{MergeSpec, Quantised, Rounding, Size, names};
use crate::error::{Error, Kind, Result};
use crate::limits::{MAX_PART, MIN_PART};
use crate::recipe::DoraNorm;

impl MergeSpec {
    /// Checks what can be checked without reading anything.
    pub fn check(&self) -> Result<()> {
        let usage = |m: String| Error::new(Kind::Usage, m);
        if self.lora.is_empty() {
            return Err(usage("no adapter is given".into()).hint("name at least one with --lora PATH"));
        }
        if let Some(lora) = self.lora.iter().find(|l| !l.weight.is_finite()) {
            return Err(usage(format!("the weight of {} is {}", lora.path, lora.weight)));
        }
        if self.part_size < MIN_PART || !self.part_size.is_power_of_two() {
            return Err(usage(format!(
                "--part-size is {}, expected a power of two of at least {}",
                Size(self.part_size),
                Size(MIN_PART)
            ))
            .hint("such as --part-size 64MiB"));
        }
        if self.part_size > MAX_PART {
            return Err(usage(format!("--part-size is {}, at most {} is taken", Size(self.part_size), Size(MAX_PART))));
        }
        if self.max_shard_size == Some(0) {
            return Err(usage("--max-shard-size is 0, expected at least one byte".into())
                .hint("leave it out to keep the base's own files"));
        }
        if self.rounding == Rounding::PerAdapter && self.dora_norm == DoraNorm::Original {
            return Err(usage(format!(
                "--rounding {} takes DoRA's norms of the weight that was saved last, and --dora-norm {} of the base",
                self.rounding, self.dora_norm
            ))
            .hint("give one of the two"));
        }
        check_requantise(self)?;
        check_expert_order(self)?;
        check_density(self)?;
        names::check(&self.extra_weights, &self.ignore_files)
    }
}

/// There is one order for all adapters, or one for each.
fn check_expert_order(spec: &MergeSpec) -> Result<()> {
    match (spec.expert_order.len(), spec.lora.len()) {
        (0 | 1, _) => Ok(()),
        (given, adapters) if given == adapters => Ok(()),
        (given, adapters) => Err(Error::new(
            Kind::Usage,
            format!("--expert-order is given {given} times, and there are {adapters} adapters"),
        )
        .hint("give it once for all adapters, or once for each in the order of --lora")),
    }
}

/// A weight is encoded once, behind the last adapter, and how much of it has to survive is a share.
fn check_requantise(spec: &MergeSpec) -> Result<()> {
    let requantise = spec.quantised == Quantised::Requantise;
    if requantise && spec.rounding == Rounding::PerAdapter {
        let text = format!(
            "--quantised {} encodes once, and --rounding {} rounds after each adapter",
            spec.quantised, spec.rounding
        );
        return Err(Error::new(Kind::Usage, text).hint("leave --rounding out, or merge the adapters one after another"));
    }
    match spec.survival {
        Some(least) if !requantise => Err(Error::new(
            Kind::Usage,
            format!(
                "--survival {least} has no meaning for --quantised {}, which encodes nothing again",
                spec.quantised
            ),
        )
        .hint("leave --survival out")),
        Some(least) if !(0.0..=1.0).contains(&least) => {
            Err(Error::new(Kind::Usage, format!("--survival is {least}, expected a number from 0 to 1")))
        }
        _ => Ok(()),
    }
}

/// A sequence prunes nothing, so no share of values can be kept.
fn check_density(spec: &MergeSpec) -> Result<()> {
    match spec.density {
        Some(density) => Err(Error::new(
            Kind::Usage,
            format!("--density {density} has no meaning for --combine {}, which prunes nothing", spec.combine),
        )
        .hint("leave --density out")),
        None => Ok(()),
    }
}
