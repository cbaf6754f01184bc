//! What each adapter was trained on, as far as its configuration names it.

use serde::{Deserialize, Serialize};

/// What one adapter was trained on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// `base_model_name_or_path` of its configuration.
    pub named: Option<String>,
    /// What that is in this merge.
    pub trained_on: TrainedOn,
}

/// What a name stands for. Adapters are numbered from 1, as they are applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrainedOn {
    /// Nothing is named.
    Unnamed,
    /// The base.
    Base,
    /// This adapter, or its result: a chain. It applies earlier.
    Adapter(u16),
    /// This adapter, or its result, although it applies later.
    LaterAdapter(u16),
    /// Something that is no part of this merge.
    Elsewhere,
}

/// The chains: the numbers of the adapters in each, the first one first. Adapters that are in none are left out.
pub fn chains(all: &[Lineage]) -> Vec<Vec<u16>> {
    let before = |number: u16| match all[usize::from(number) - 1].trained_on {
        TrainedOn::Adapter(earlier) if earlier < number => Some(earlier),
        _ => None,
    };
    let numbers = || (1u16..).take(all.len());
    let is_last = |number: &u16| numbers().all(|other| before(other) != Some(*number));
    let chain = |last: u16| {
        let mut chain: Vec<u16> = std::iter::successors(Some(last), |number| before(*number)).collect();
        chain.reverse();
        chain
    };
    numbers().filter(is_last).map(chain).filter(|chain| chain.len() > 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_goes_from_its_first_adapter_to_its_last() {
        use TrainedOn::{Adapter, Base, Elsewhere, LaterAdapter};
        let of = |all: &[TrainedOn]| {
            chains(&all.iter().map(|on| Lineage { named: None, trained_on: *on }).collect::<Vec<_>>())
        };
        assert_eq!(of(&[Base, Adapter(1), Adapter(2)]), [[1, 2, 3]]);
        assert_eq!(of(&[Base, Adapter(1), Base, Adapter(1)]), [[1, 2], [1, 4]], "two of one adapter");
        assert_eq!(of(&[LaterAdapter(2), Base, Elsewhere]), Vec::<Vec<u16>>::new());
    }
}
