//! Rank and scale of each module of an adapter.

use super::config::AdapterConfig;
use super::pattern::Patterns;
use super::resolve::Resolved;
use crate::bounded;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// Entries of a table that match one module, in the order of the file.
type Matches<'a> = Vec<(&'a str, f64)>;

/// The tables of an adapter, compiled.
pub(super) struct Tables<'a> {
    config: &'a AdapterConfig,
    ranks: Patterns,
    alphas: Patterns,
}

/// Rank and alpha by module.
pub(super) struct Scales<'a> {
    config: &'a AdapterConfig,
    ranks: Vec<Matches<'a>>,
    alphas: Vec<Matches<'a>>,
}

impl<'a> Tables<'a> {
    pub(super) fn new(config: &'a AdapterConfig) -> Result<Self> {
        Ok(Tables {
            config,
            ranks: Patterns::new("rank_pattern", &config.rank_pattern)?,
            alphas: Patterns::new("alpha_pattern", &config.alpha_pattern)?,
        })
    }

    /// Matches the tables with all modules at once.
    pub(super) fn scales(&self, modules: &[&str], effort: &mut Effort) -> Result<Scales<'_>> {
        Ok(Scales {
            config: self.config,
            ranks: self.ranks.matches(modules, effort)?,
            alphas: self.alphas.matches(modules, effort)?,
        })
    }
}

impl Scales<'_> {
    /// A module's rank (A's rows, which the configuration must agree with) and scale; `number` is its place in the list.
    pub(super) fn of(&self, number: usize, module: &str, a: &Source, out: &mut Resolved) -> Result<(u64, f64)> {
        let held = a.shape[0];
        let (ranks, alphas) = (&self.ranks[number], &self.alphas[number]);
        let said = ranks.first().map_or(self.config.r as f64, |(_, r)| *r);
        // PEFT sorts the keys when it saves, so where several match, the order on disk need not be the trainer's; the
        // tensor's own rank is the truth.
        let agrees = said == held as f64 || (ranks.len() > 1 && ranks.iter().any(|(_, r)| *r == held as f64));
        if !agrees {
            let by = ranks.first().map_or("r".to_owned(), |(key, _)| format!("rank_pattern {key:?}"));
            return Err(Error::new(
                Kind::RankMismatch,
                format!("{} has rank {held} (shape {:?}), adapter_config.json says {said} by {by}", a.name, a.shape),
            ));
        }
        for (table, matches) in [("rank_pattern", ranks), ("alpha_pattern", alphas)] {
            if matches.len() > 1 && matches.iter().any(|m| m.1 != matches[0].1) {
                let keys = bounded::list(matches.iter().map(|(k, v)| format!("{k:?} = {v}")));
                out.warnings.push(format!("{table}: several patterns match {module} ({keys}); the first one counts, and saving may have reordered them"));
            }
        }
        let alpha = alphas.first().map_or(self.config.lora_alpha, |(_, v)| *v);
        let rank = held as f64;
        Ok((held, if self.config.use_rslora { alpha / rank.sqrt() } else { alpha / rank }))
    }
}
