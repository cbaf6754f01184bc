//! Ties: names of a model that are one parameter.
//!
//! The model's class ties names (T5's four embeddings, BERT's decoder and its bias), or a PyTorch file gives them one
//! storage, and neither config.json nor `--tied` says otherwise. Neither the lack of a tensor nor its presence is a test, and
//! equal values alone are none; but a file that holds different values holds different tensors, whatever its configuration
//! says.

use crate::error::{Error, Kind, Result};
use crate::inventory::{BaseInventory, Source};

mod found;
mod repeated;
mod said;
mod set;
mod sides;
mod storage;
mod table;
mod values;

use super::names::Names;
pub use said::{TIE, is_tied};
pub use set::TiedSet;
pub use sides::{Sides, sides};
use values::Values;

/// The ties of a base while adapters are laid onto it.
#[derive(Debug)]
pub struct Ties {
    /// The input and the output embedding, whether they are tied or not; `None` if the base holds no embedding under a known
    /// name.
    pub sides: Option<Sides>,
    /// The sets that are in force, and those of which nothing tells.
    pub sets: Vec<TiedSet>,
    /// Whether config.json has to say that nothing is tied.
    pub untied: bool,
    /// Whether the user said so against the configuration.
    pub untied_by_request: bool,
}

impl Ties {
    /// Decides for a base, by its values where they are known, else by `--tied`, else by its configuration and class.
    ///
    /// # Errors
    /// If `--tied` cannot be obeyed.
    pub fn of(base: &BaseInventory, names: &Names<'_>, asked: Option<bool>) -> Result<Ties> {
        let said = is_tied(&base.config);
        let sides = sides(&base.config, |name| names.has(name));
        let mut sets = found::sets(base, names, asked);
        let values = Values::of(base, &sets);
        sets.iter_mut().for_each(|set| values.judge(set));
        obey(asked, said, &sets, names)?;
        for set in &mut sets {
            set.tied = set.tied.or(asked);
        }
        sets.retain(|set| match set.tied {
            Some(tied) => tied && asked != Some(false),
            // Nothing tells that they are one, but values that differ tell that they are not.
            None => set.differing.is_empty(),
        });
        let listens = table::of(&base.config).is_none_or(|class| !class.always());
        let untied_by_request = asked == Some(false) && said == Some(true);
        Ok(Ties { sides, sets, untied: untied_by_request && listens, untied_by_request })
    }

    /// The names that are one parameter with another, stored or not, each with the stored one that carries its changes.
    pub fn names(&self) -> impl Iterator<Item = (&str, &str)> {
        let shared = self.sets.iter().filter(|set| set.is_shared());
        shared.flat_map(|set| set.names.iter().map(|name| (name.as_str(), set.leader.as_str())))
    }

    /// The stored copies of each set that only their values tell from one another: the leader with each.
    pub fn copies<'a>(&self, base: &'a BaseInventory) -> Vec<(&TiedSet, Vec<(&'a Source, &'a Source)>)> {
        let values = Values::of(base, &self.sets);
        self.sets.iter().map(|set| (set, values.copies(set))).filter(|(_, copies)| !copies.is_empty()).collect()
    }

    /// Whether this is the name of one of the two embeddings.
    pub fn is_side(&self, name: &str) -> bool {
        self.sides.is_some_and(|(input, output)| name == input || name == output)
    }

    /// Settles what must be known before an adapter changes a name of a set. What was found, for the report.
    ///
    /// # Errors
    /// If nothing tells whether the names are one tensor.
    pub fn settle(&mut self, at: usize) -> Result<Option<String>> {
        let Some(set) = self.sets.get_mut(at) else { return Ok(None) };
        if set.tied.is_none() {
            return Err(Error::new(Kind::BadConfig, "the adapter changes an embedding, and neither config.json nor the model type tells whether input and output embedding are one tensor")
                .hint("say so with --tied true or --tied false"));
        }
        if let Some(copy) = &set.uncompared {
            // One would be overwritten with the other.
            let text = format!("{} and {copy} were not compared before planning", set.leader);
            return Err(Error::new(Kind::Internal, text));
        }
        let differing = std::mem::take(&mut set.differing);
        if differing.is_empty() {
            return Ok(None);
        }
        let says = if set.is_by_config() && !self.untied { ", and tie_word_embeddings becomes false" } else { "" };
        self.untied |= set.is_by_config();
        let (who, leader) = (if set.always { "class" } else { "configuration" }, &set.leader);
        let (own, verb) = (differing.join(" and "), if differing.len() == 1 { "holds" } else { "hold" });
        let count = if differing.len() == 1 && set.names.len() == 1 { "two tensors" } else { "tensors of their own" };
        Ok(Some(format!(
            "the model is tied by its {who}, but {own} {verb} other values than {leader}: they stay {count}{says}"
        )))
    }
}

/// Refuses a `--tied` that the base contradicts.
fn obey(asked: Option<bool>, said: Option<bool>, sets: &[TiedSet], names: &Names<'_>) -> Result<()> {
    let conflict = |why: String| Error::new(Kind::Conflict, why);
    match asked {
        Some(true) if said == Some(false) => {
            let text = match sets.first() {
                Some(set) => format!("{} are different tensors", listed(set)),
                None => "the input embedding and the output embedding are two tensors".to_owned(),
            };
            Err(conflict(format!("--tied true, but by config.json or its model type {text}"))
                .hint("set tie_word_embeddings in the base's config.json if it is wrong"))
        }
        Some(true) if sets.is_empty() => {
            Err(conflict("--tied true, but the base holds no input embedding under a name that is known".into()))
        }
        Some(true) => match sets.iter().find_map(|set| Some((set, set.differing.first()?))) {
            Some((set, other)) => {
                Err(conflict(format!("--tied true, but {} and {other} hold different values in the base", set.leader))
                    .hint("--tied false keeps both as they are"))
            }
            None => Ok(()),
        },
        Some(false) if said == Some(true) => {
            let missing = |set: &TiedSet| set.names.iter().find(|name| !names.has(name)).cloned();
            match sets.iter().find_map(|set| Some((set, missing(set)?))) {
                Some((set, name)) => Err(conflict(format!(
                    "--tied false, but by config.json or its model type {name} is {}, and the base holds no {name} of its own",
                    set.leader
                ))),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

fn listed(set: &TiedSet) -> String {
    set.names.iter().chain(&set.differing).map(String::as_str).collect::<Vec<_>>().join(" and ")
}
