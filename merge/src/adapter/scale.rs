//! Rank and scale of each module, for the kinds whose ranks and alphas may differ by module.

use super::config::fields::{Fields, bad};
use super::edit::Resolved;
use super::pattern::Patterns;
use crate::bounded;
use crate::effort::Effort;
use crate::error::{Error, Kind, Result};
use crate::inventory::Source;

/// What a configuration says of ranks and alphas.
#[derive(Debug, Clone, PartialEq)]
pub struct Ranks {
    /// The default rank.
    pub r: u64,
    /// The default alpha.
    pub alpha: f64,
    /// Scale by `alpha / sqrt(r)` instead of `alpha / r`.
    pub by_root: bool,
    /// Ranks by module, in the order of the file.
    pub rank_pattern: Vec<(String, f64)>,
    /// Alphas by module, in the order of the file.
    pub alpha_pattern: Vec<(String, f64)>,
}

impl Ranks {
    /// Reads them; `alpha` is the key of the default alpha.
    ///
    /// # Errors
    /// `bad_config` for what is no rank or no alpha.
    pub fn read(fields: Fields<'_>, alpha: &str) -> Result<Ranks> {
        let r = fields.count("r")?.unwrap_or(8);
        let value = fields.number(alpha)?.unwrap_or(8.0);
        if !value.is_finite() {
            return Err(bad(format!("{alpha} is {value}")));
        }
        Ok(Ranks {
            r,
            alpha: value,
            by_root: false,
            rank_pattern: fields.pattern("rank_pattern")?,
            alpha_pattern: fields.pattern("alpha_pattern")?,
        })
    }

    /// Reads the ranks of a kind without alphas; `r` is the default of the kind.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn without_alpha(fields: Fields<'_>, r: u64) -> Result<Ranks> {
        Ok(Ranks {
            r: fields.count("r")?.unwrap_or(r),
            alpha: 1.0,
            by_root: false,
            rank_pattern: fields.pattern("rank_pattern")?,
            alpha_pattern: Vec::new(),
        })
    }

    /// Rank and scale of each of these modules. All are matched at once.
    ///
    /// # Errors
    /// `bad_config` if a pattern is no regular expression, takes more than it may, or there are too many.
    pub fn scales<'a>(&self, modules: impl Iterator<Item = &'a str>, effort: &mut Effort) -> Result<Scales<'_>> {
        let modules: Vec<&str> = modules.collect();
        let mut matches = |table: &'static str, entries: &[(String, f64)]| -> Result<Vec<Matches>> {
            let patterns = Patterns::new(table, entries)?;
            let found = patterns.matches(&modules, effort)?;
            let owned = |entries: Vec<(&str, f64)>| entries.into_iter().map(|(key, v)| (key.to_owned(), v)).collect();
            Ok(found.into_iter().map(owned).collect())
        };
        let ranks = matches("rank_pattern", &self.rank_pattern)?;
        Ok(Scales { said: self, ranks, alphas: matches("alpha_pattern", &self.alpha_pattern)? })
    }
}

/// Entries of a table that match one module, in the order of the file.
type Matches = Vec<(String, f64)>;

/// Rank and alpha by module.
pub struct Scales<'a> {
    said: &'a Ranks,
    ranks: Vec<Matches>,
    alphas: Vec<Matches>,
}

impl Scales<'_> {
    /// A module's scale; `number` is its place in the list, `held` the rank that its tensor `a` has.
    ///
    /// # Errors
    /// `rank_mismatch` if the configuration has another rank.
    pub fn of(&self, number: usize, module: &str, held: (u64, &Source), out: &mut Resolved) -> Result<f64> {
        Ok(self.of_held(number, module, Some(held), out)?.1)
    }

    /// A module's rank and scale. Where no tensor has the rank, it is the configuration's.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub fn of_held(
        &self,
        number: usize,
        module: &str,
        held: Option<(u64, &Source)>,
        out: &mut Resolved,
    ) -> Result<(u64, f64)> {
        let (ranks, alphas) = (&self.ranks[number], &self.alphas[number]);
        let said = ranks.first().map_or(self.said.r as f64, |(_, r)| *r);
        // PEFT sorts the keys when it saves, so where several match, the order on disk need not be the trainer's; the
        // tensor's own rank is the truth.
        let agrees =
            |held: u64| said == held as f64 || (ranks.len() > 1 && ranks.iter().any(|(_, r)| *r == held as f64));
        if let Some((held, a)) = held.filter(|(held, _)| !agrees(*held)) {
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
        let alpha = alphas.first().map_or(self.said.alpha, |(_, v)| *v);
        let rank = held.map_or(said, |(held, _)| held as f64);
        Ok((rank as u64, if self.said.by_root { alpha / rank.sqrt() } else { alpha / rank }))
    }
}
