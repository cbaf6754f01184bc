//! How much of each delta survives where weights are encoded again. Nothing is encoded before all of it is known, and below the
//! limit the merge ends with one error.

use std::collections::{BTreeMap, HashMap};

use shardfuse_merge::Result;
use shardfuse_merge::plan::Plan;
use shardfuse_merge::statistic::Kind;
use shardfuse_merge::statistic::survival::{Sums, Survived, check};
use tracing::info;

use crate::measured::Measured;

/// The sums that are known.
#[derive(Debug)]
pub(super) struct Survival {
    /// Those that there are, by their numbers, with their parameters.
    parameters: BTreeMap<u32, String>,
    known: BTreeMap<u32, Sums>,
    limit: f64,
}

impl Survival {
    /// Of a plan, with what earlier runs measured.
    pub(super) fn of<'a>(plan: &Plan, measured: impl IntoIterator<Item = &'a Measured>) -> Survival {
        let all = (0u32..).zip(&plan.statistics);
        let own = all.filter(|(_, statistic)| matches!(statistic.kind, Kind::Survival { .. }));
        let parameters = own.map(|(id, statistic)| (id, statistic.tensor.clone())).collect();
        let mut survival = Survival { parameters, known: BTreeMap::new(), limit: plan.spec.least_survival() };
        measured.into_iter().for_each(|measured| survival.take(measured));
        survival
    }

    /// Takes a statistic, if it is one of these.
    pub(super) fn take(&mut self, Measured { value, survival }: &Measured) {
        if let (Some(sums), true) = (survival, self.parameters.contains_key(&value.id.0)) {
            self.known.insert(value.id.0, *sums);
        }
    }

    /// The figures of all parameters, in the order of the plan; none until all are known.
    pub(super) fn figures(&self) -> Vec<Survived> {
        if self.known.len() < self.parameters.len() {
            return Vec::new();
        }
        let mut places: HashMap<&str, usize> = HashMap::new();
        let mut all: Vec<(&str, Sums)> = Vec::new();
        for (id, parameter) in &self.parameters {
            let at = *places.entry(parameter).or_insert(all.len());
            match all.get_mut(at) {
                Some((_, sums)) => *sums = sums.and(self.known[id]),
                None => all.push((parameter, self.known[id])),
            }
        }
        all.into_iter().map(|(parameter, sums)| sums.figures(parameter)).collect()
    }

    /// Refuses a merge that loses more than its limit allows, once everything is known.
    ///
    /// # Errors
    /// `delta_lost`.
    pub(super) fn check(&self) -> Result<()> {
        let figures = self.figures();
        check(&figures, self.limit).inspect_err(|_| {
            // The error has room for some of them.
            for Survived { tensor, cosine, norm } in &figures {
                info!(%tensor, cosine, norm, limit = self.limit, "how much of the delta survives");
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use shardfuse_merge::plan::task::StatisticValue;
    use shardfuse_merge::statistic::StatisticId;

    use super::*;

    fn measured(id: u32, common: f64) -> Measured {
        let value = StatisticValue { id: StatisticId(id), url: String::new(), digest: String::new() };
        Measured { value, survival: Some(Sums { wanted: 1.0, left: 1.0, common }) }
    }

    #[test]
    fn portions_are_one_parameter_and_nothing_is_judged_before_all_are_known() {
        let parameters = [(1, "a".to_owned()), (3, "b".to_owned()), (4, "a".to_owned())].into();
        let mut survival = Survival { parameters, known: BTreeMap::new(), limit: 0.9 };
        survival.take(&measured(1, 1.0));
        survival.take(&measured(3, 0.1));
        survival.take(&measured(2, 0.0));
        assert!(survival.figures().is_empty() && survival.check().is_ok());
        survival.take(&measured(4, 0.0));
        let figures: Vec<_> = survival.figures().into_iter().map(|s| (s.tensor, s.cosine, s.norm)).collect();
        assert_eq!(figures, [("a".to_owned(), 0.5, 1.0), ("b".to_owned(), 0.1, 1.0)]);
        assert!(survival.check().unwrap_err().message().contains("2 of 2 weights"));
    }
}
